"""A publisher that was used before a fork: each process has connections of its own, and every message is stored once."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.secrets import API_KEY

CHILDREN = 4
MESSAGES = 200

PROGRAM = Path(__file__).with_name("forking.py")


@pytest.mark.parametrize("kind", ["idle", "busy", "async"])
async def test_forked_children_publish_on_connections_of_their_own(serve, kind: str) -> None:
    async with serve(limits={"messages_per_second": 100_000.0}) as served:
        with trio.fail_after(120):
            ran = await trio.run_process(
                [
                    sys.executable,
                    "-W",
                    "error",
                    str(PROGRAM),
                    kind,
                    served.url,
                    API_KEY,
                    str(CHILDREN),
                    str(MESSAGES),
                ],
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert ran.returncode == 0, ran.stdout.decode()
        for child in range(CHILDREN):
            room = (await served.http.get(f"/api/rooms/child-{child}")).json()
            assert room["offset"] == MESSAGES
            page = (await served.http.get(f"/api/rooms/child-{child}/messages?limit={MESSAGES}")).json()
            assert [message["n"] for message in page["messages"]] == list(range(MESSAGES))
