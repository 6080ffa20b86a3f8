"""Server processes that share one engine, each on a port that it keeps; started, stopped, frozen and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx2
import trio

from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import free_port
from tests.support.secrets import API_KEY, SECRET
from tests.support.untraced import untraced

ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "GREENROOM_LIMITS__USER_BYTES_BURST": "1000000000",
    "GREENROOM_LIMITS__IDS_PER_USER": "10000000",
    "GREENROOM_HISTORY__MESSAGES": "1000000",
    "GREENROOM_HISTORY__BYTES": "100000000",
}
"""So that no limit is met, and no event forgotten."""


@attrs.define(eq=False)
class NodeProcess:
    """A server process, started again on the port it had."""

    engine: str
    log: Path
    environ: Mapping[str, str]
    arguments: Sequence[str] = ()
    port: int = attrs.Factory(free_port)
    process: trio.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        others = {
            name: value for name, value in untraced(os.environ).items() if not name.startswith("GREENROOM_")
        }
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                [
                    *(sys.executable, "-m", "broker", "serve"),
                    *("--port", str(self.port), "--engine", self.engine, *self.arguments),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**others, **ENVIRON, **self.environ},
            )
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS
        ) as http:
            while not await _is_ready(http):
                assert self.process.poll() is None, self.log.read_text()
                await trio.sleep(0.02)

    async def stop(self) -> None:
        """Send SIGTERM, and wait until it has drained and ended by itself."""
        assert self.process is not None
        self.process.terminate()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await self.process.wait() == 0

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()

    def freeze(self) -> None:
        """Stop it in the midst of whatever it does; connections stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


async def _is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/ready")).status_code == 200
    except httpx2.TransportError:
        return False


@asynccontextmanager
async def running_nodes(nodes: Sequence[NodeProcess]) -> AsyncIterator[None]:
    """Start nodes, and kill what is left of them in the end."""
    try:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.start)
        yield
    finally:
        with trio.CancelScope(shield=True):
            for node in nodes:
                await node.kill()
