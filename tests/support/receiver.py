"""An application that receives webhooks on a port of the kernel's, keeps a book, and misbehaves as a test says."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from functools import partial
from typing import Any

import attrs
import h11
import trio

from broker.hooks import SignatureError, verify

SECRET = "whsec_" + "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="


class Manner(Enum):
    """How a request is answered. The book has its entries all the same but for REFUSE and REDIRECT."""

    TAKE = auto()
    REFUSE = auto()
    FAIL = auto()
    REDIRECT = auto()
    HANG = auto()
    SLOW = auto()
    RUBBISH = auto()
    CLOSE = auto()
    CUT_OFF = auto()
    ENDLESS = auto()


@attrs.define(eq=False)
class Application:
    """The book of what came, and how the next requests are answered."""

    url: str
    choose: Callable[[], Manner] = lambda: Manner.TAKE
    entries: dict[str, dict[str, Any]] = attrs.Factory(dict)
    """By id, in the order in which they first came."""
    out_of_order: list[str] = attrs.Factory(list)
    """Entries that came after a newer one of their room had come."""
    requests: list[dict[str, str]] = attrs.Factory(list)
    """The headers of all requests."""
    connections: int = 0
    repeated: int = 0
    unsigned: list[str] = attrs.Factory(list)
    _newest: dict[tuple[str, str | None], int] = attrs.Factory(lambda: defaultdict(int))

    def note(self, headers: dict[str, str], body: bytes) -> None:
        """Verify a request and enter it in the book."""
        try:
            batch = verify(headers, body, SECRET)
        except SignatureError as error:
            self.unsigned.append(str(error))
            return
        for entry in batch:
            if entry["id"] in self.entries:
                self.repeated += 1
                continue
            self.entries[entry["id"]] = entry
            epoch = entry["id"].rpartition("-")[0]
            place = epoch, entry["room"] or entry["user"]
            if entry["number"] < self._newest[place]:
                self.out_of_order.append(entry["id"])
            self._newest[place] = max(self._newest[place], entry["number"])

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            async with stream:
                # h11 reads only, and a client does not send its next request before it is answered.
                while (request := await _read_request(h11.Connection(h11.SERVER), stream)) is not None:
                    if not await self._answer(*request, stream):
                        return

    async def _answer(self, headers: dict[str, str], body: bytes, stream: trio.SocketStream) -> bool:
        """Answer one request; returns whether the connection goes on."""
        manner = self.choose()
        self.requests.append(headers)
        if manner not in {Manner.REFUSE, Manner.REDIRECT}:
            self.note(headers, body)
        whole = {
            Manner.TAKE: _answer(204),
            Manner.REFUSE: _answer(503, b"no"),
            Manner.FAIL: _answer(503, b"no"),
            Manner.REDIRECT: _answer(302, extra=f"Location: {self.url}/other"),
        }
        if manner in whole:
            await stream.send_all(whole[manner])
        elif manner is Manner.SLOW:
            for byte in _answer(200, b"ok"):
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.001)
        else:
            await _misbehave(manner, stream)
            return False
        return True


async def _misbehave(manner: Manner, stream: trio.SocketStream) -> None:
    match manner:
        case Manner.HANG:
            await trio.sleep_forever()
        case Manner.RUBBISH:
            await stream.send_all(b"\x16\x03\x01 rubbish \r\n\r\n")
        case Manner.CUT_OFF:
            await stream.send_all(_answer(200, b"all is well")[:-4])
        case Manner.ENDLESS:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await stream.send_all(b"x" * 65_536)


@asynccontextmanager
async def open_application(
    choose: Callable[[], Manner] = lambda: Manner.TAKE, *, port: int = 0
) -> AsyncIterator[Application]:
    """Serve an application for the block."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        application = Application(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/in", choose)
        nursery.start_soon(partial(trio.serve_listeners, application.serve, listeners))
        yield application
        nursery.cancel_scope.cancel()


async def _read_request(
    connection: h11.Connection, stream: trio.SocketStream
) -> tuple[dict[str, str], bytes] | None:
    headers: dict[str, str] | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.Request(headers=found):
                headers = {name.decode(): value.decode() for name, value in found}
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                assert headers is not None
                return headers, bytes(body)
            case h11.ConnectionClosed():
                return None
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())


def _answer(status: int, body: bytes = b"", *, extra: str = "X-Extra: 1") -> bytes:
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    return (
        f"HTTP/1.1 {status} X\r\n{length}Set-Cookie: a={json.dumps(status)}\r\n{extra}\r\n\r\n".encode()
        + body
    )
