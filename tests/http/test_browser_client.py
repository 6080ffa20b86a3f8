"""The client for browsers, as it is served."""

import gzip
import re
from importlib.resources import files

import pytest

CONTENT_TYPES = {
    "greenroom.js": "text/javascript; charset=utf-8",
    "greenroom.d.ts": "application/typescript; charset=utf-8",
}


@pytest.mark.parametrize("name", CONTENT_TYPES)
async def test_any_page_may_import_it(world, name):
    response = await world.client.get(f"/{name}", headers={"Origin": "https://a.example"})
    assert response.status_code == 200
    assert response.content == (files("broker.web") / name).read_bytes()
    assert response.headers["Content-Type"] == CONTENT_TYPES[name]
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize("name", CONTENT_TYPES)
async def test_a_browser_that_has_it_is_told_so(world, name):
    first = await world.client.get(f"/{name}")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await world.client.get(f"/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    # Without this a page of another origin could not use what it has.
    assert again.headers["Access-Control-Allow-Origin"] == "*"
    other = await world.client.get(f"/{name}", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize("name", CONTENT_TYPES)
@pytest.mark.parametrize("accepted", ["gzip, br", "identity", "gzip;q=0", ""])
async def test_it_comes_as_small_as_the_client_can_take(world, name, accepted):
    response = await world.client.get(f"/{name}", headers={"Accept-Encoding": accepted})
    is_small = accepted == "gzip, br"
    assert response.headers.get("Content-Encoding") == ("gzip" if is_small else None)
    assert "Accept-Encoding" in response.headers["Vary"]
    assert (int(response.headers["Content-Length"]) < len(response.content)) == is_small
    assert response.content == (files("broker.web") / name).read_bytes()


async def test_the_module_names_its_types(world):
    types = (await world.client.get("/greenroom.js")).headers["X-TypeScript-Types"]
    assert "export declare function connect(" in (await world.client.get(types)).text


async def test_it_stays_small_and_loads_nothing(world):
    module = (await world.client.get("/greenroom.js")).content
    assert len(gzip.compress(module)) < 6144
    assert not re.search(rb"\bimport\b|https?://", module)


async def test_where_one_origin_may_use_the_api_every_page_may_still_import_it(open_world):
    async with open_world(http={"cors_origins": ["https://a.example"]}) as world:
        response = await world.client.get("/greenroom.js", headers={"Origin": "https://b.example"})
        assert response.headers["Access-Control-Allow-Origin"] == "*"
