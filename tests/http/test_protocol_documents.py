"""The documents of the protocol, as a server gives them."""

import json
import subprocess
import sys
from pathlib import Path

import fastapi
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/schema/greenroom.v1.json", "application/schema+json"),
        ("/asyncapi.json", "application/json"),
        ("/web/asyncapi.json", "application/json"),
    ],
)
async def test_they_are_those_of_the_docs_and_open_to_all(world, path, content_type):
    world.client.headers.clear()
    for _ in range(2):
        response = await world.client.get(path)
        # Versions of msgspec write the members of some objects in another order.
        assert response.json() == json.loads((DOCS / path.rpartition("/")[2]).read_bytes())
        assert response.headers["Content-Type"] == content_type


async def test_a_program_has_an_asyncapi_document_of_its_own(open_world):
    shop = fastapi.FastAPI()

    @shop.get("/asyncapi.json")
    async def asyncapi() -> dict:
        return {"info": {"title": "the shop"}}

    async with open_world(beside=shop) as world:
        assert (await world.client.get("/asyncapi.json")).json()["info"]["title"] == "the shop"
        for path in ("/web/asyncapi.json", "/schema/greenroom.v1.json"):
            assert b"greenroom.v1" in (await world.client.get(path)).content


def test_a_server_imports_nothing_for_them_at_its_start():
    program = (
        "import sys, broker.process; sys.exit(any('protocol.documents' in name for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
