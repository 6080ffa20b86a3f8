"""A server as a process of its own on a SQLite file, and the little HTTP that the tests speak with it."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import jwt
import trio

from tests.support.secrets import API_KEY, SECRET
from tests.support.untraced import untraced

ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__DRAIN_SECONDS": "0",
    "GREENROOM_HISTORY__MESSAGES": "1000000",
    "GREENROOM_HISTORY__BYTES": "1000000000",
    "GREENROOM_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "GREENROOM_LIMITS__USER_BYTES_BURST": "1000000000",
    "GREENROOM_LIMITS__IDS_PER_USER": "10000000",
    "GREENROOM_LIMITS__MESSAGES_BURST": "1000000",
}
TEST_SECONDS = 300
"""How long a test may take before it is taken to hang."""


@attrs.define(eq=False)
class Server:
    """A running server."""

    process: trio.Process
    url: str = ""
    log: list[dict[str, Any]] = attrs.Factory(list)
    is_killed: bool = False

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def websocket_path(self, user: str, room: str, since: tuple[str, int] | None) -> str:
        token = jwt.encode({"sub": user}, SECRET, algorithm="HS256")
        position = "" if since is None else f"&epoch={since[0]}&offset={since[1]}"
        return f"/ws/{room}?token={token}{position}"

    async def kill(self) -> None:
        """End it without warning, as kill -9 does."""
        self.is_killed = True
        self.process.kill()
        await self.process.wait()

    async def read_log(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep its log lines until it ends; started once it listens."""
        unread = b""
        assert self.process.stderr is not None
        async for received in self.process.stderr:
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                self.log.append(json.loads(line))
                if self.log[-1]["event"] == "listening":
                    self.url = self.log[-1]["url"]
                    task_status.started()
        assert self.url, f"the server did not start: {self.log} {unread!r}"


@asynccontextmanager
async def serve(
    path: Path, *, engine: str | None = None, config: Path | None = None, **environ: str
) -> AsyncIterator[Server]:
    """Start a server on a file, or on another engine; what is left of it at the end is killed.

    `config` is a configuration file, and `environ` are further variables.
    """
    witnesses = path.parent.parent / "witnesses"
    witnesses.mkdir(exist_ok=True)
    # What is killed writes no coverage down.
    others = {
        name: value for name, value in untraced(os.environ).items() if not name.startswith("GREENROOM_")
    }
    configured = [] if config is None else ["--config", str(config)]
    engine = engine or f"sqlite:///{path}"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "broker", "serve", "--port", "0", "--engine", engine, *configured],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**others, **ENVIRON, "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(witnesses), **environ},
    )
    server = Server(process)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.read_log)
            yield server
            await server.kill()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stderr is not None
            await process.stderr.aclose()


@attrs.frozen
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: Any


async def ask(
    server: Server, path: str, message: object = None, *, idempotency_key: str | None = None
) -> Answer | None:
    """GET a path, or POST a message to it; None if the server went away before it had answered."""
    body = b"" if message is None else json.dumps(message).encode()
    head = [
        f"{'GET' if message is None else 'POST'} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {API_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if idempotency_key is not None:
        head.append(f"Idempotency-Key: {idempotency_key}")
    received = b""
    try:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all("\r\n".join([*head, "", ""]).encode() + body)
            async for some in stream:
                received += some
    except (OSError, trio.BrokenResourceError):
        assert server.is_killed
    return _parse(received)


def _parse(received: bytes) -> Answer | None:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if len(body) != int(headers.get("content-length", -1)):
        return None
    return Answer(int(first.split()[1]), headers, json.loads(body))


async def history(server: Server, room: str, *, page: int = 100) -> list[dict[str, Any]]:
    """Return all that a room holds, read page by page."""
    messages: list[dict[str, Any]] = []
    where = ""
    while True:
        answer = await ask(server, f"/api/rooms/{room}/messages?limit={page}{where}")
        assert answer is not None
        assert answer.status == 200, answer
        messages += answer.body["messages"]
        if not answer.body["messages"]:
            assert answer.body["offset"] == len(messages)
            return messages
        where = f"&since={messages[-1]['offset']}&epoch={messages[-1]['epoch']}"
