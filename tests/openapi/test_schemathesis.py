"""`/openapi.json` and the API are compared by schemathesis: it sends what the document allows, and what it does not."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio

from tests.support.patience import PATIENCE_SECONDS
from tests.support.receiver import SECRET
from tests.support.secrets import API_KEY
from tests.support.served import Serve

HERE = Path(__file__).parent
needs_schemathesis = pytest.mark.skipif(
    find_spec("schemathesis") is None, reason="schemathesis is not installed: the extra `openapi`"
)


async def compare(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run schemathesis in `folder`, where it leaves files."""
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json", "--no-color"),
        *("--header", f"Authorization: Bearer {API_KEY}", "--request-timeout", str(PATIENCE_SECONDS)),
        *options,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")}
    return await trio.run_process(
        command, cwd=folder, env=environment, check=False, capture_stdout=True, stderr=subprocess.STDOUT
    )


@needs_schemathesis
async def test_the_api_is_as_its_document_says(serve: Serve, tmp_path: Path) -> None:
    nobody = {"name": "orders", "url": "http://127.0.0.1:9/", "secret": SECRET}
    async with serve(webhooks=[nobody]) as served:
        ended = await compare(served.url, tmp_path)
        operations = (await served.http.get("/openapi.json")).text.count('"operationId"')
    output = ended.stdout.decode()
    assert ended.returncode == 0, output
    # It leaves out the operation that gives the document.
    assert f"Tested: {operations - 1}" in output
