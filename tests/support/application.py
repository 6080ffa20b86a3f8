"""An application that hooks ask: a local HTTP server that keeps its connections, on a port of the kernel's."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import trio

Respond = Callable[[trio.SocketStream], Awaitable[None]]


def response(content: bytes | dict[str, Any], status: int = 200, **headers: str) -> bytes:
    """Return an HTTP response that keeps its connection; names of headers are written with underscores."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


ALLOW = response({"allow": True})


@attrs.define
class Application:
    """What was posted, with its headers, and how each request is answered: with bytes, or by a function."""

    url: str
    answer: bytes | Respond = ALLOW
    asked: list[dict[str, Any]] = attrs.Factory(list)
    requests: list[tuple[dict[str, str], bytes]] = attrs.Factory(list)
    connections: int = 0

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        buffer = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some()
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
                headers = {name.lower(): value for name, _, value in lines}
                while len(buffer) < int(headers["content-length"]):
                    buffer += await stream.receive_some()
                body, buffer = (
                    buffer[: int(headers["content-length"])],
                    buffer[int(headers["content-length"]) :],
                )
                self.requests.append((headers, body))
                self.asked.append(json.loads(body))
                if isinstance(self.answer, bytes):
                    await stream.send_all(self.answer)
                else:
                    await self.answer(stream)


@contextlib.asynccontextmanager
async def open_application() -> AsyncIterator[Application]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    application = Application(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hook")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, application._serve, [listener])
        yield application
        nursery.cancel_scope.cancel()
