"""Clients of the tests: one that behaves, and one that writes whatever bytes it likes."""

import json
from typing import Any, TypeAlias

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

Message: TypeAlias = dict[str, Any]

LONGEST_SECONDS = 120.0
"""How long a peer waits for anything; virtual seconds, where the clock jumps."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, announced: int | None = None
) -> bytes:
    """Return a client's frame, masked with 1 2 3 4; `announced` is the length it claims to have."""
    size = len(payload) if announced is None else announced
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\1\2\3\4" + bytes(byte ^ (1, 2, 3, 4)[i % 4] for i, byte in enumerate(payload))


def text_of(**message: object) -> bytes:
    """Return a message as a client's text frame."""
    return client_frame(TEXT, json.dumps(message).encode())


def handshake(target: str, *headers: str) -> bytes:
    """Return an opening handshake (RFC 6455 section 4.1)."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: example.org",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


@attrs.define(eq=False)
class Client:
    """A well-behaved client that speaks JSON."""

    connection: WebSocketConnection
    stream: trio.abc.HalfCloseableStream

    async def send(self, **message: object) -> None:
        await self.connection.send_message(json.dumps(message))

    async def receive(self) -> Message:
        with trio.fail_after(LONGEST_SECONDS):
            message: Message = json.loads(await self.connection.get_message())
        return message

    async def receive_type(self, kind: str) -> Message:
        """Return the next message of a type, throwing away those before it."""
        while (message := await self.receive())["type"] != kind:
            pass
        return message

    async def ask(self, **message: object) -> Message:
        """Send a request with an id of its own and return what answers it, throwing away the rest."""
        await self.send(**{"id": "asked", **message})
        while (reply := await self.receive()).get("id") != message.get("id", "asked"):
            pass
        return reply

    async def read_to_end(self) -> tuple[list[Message], int]:
        """Return all that comes, and the code with which the connection is closed."""
        messages = []
        while True:
            try:
                messages.append(await self.receive())
            except ConnectionClosed as closed:
                return messages, closed.reason.code

    async def read_code(self) -> int:
        """Return the code with which the connection is closed."""
        return (await self.read_to_end())[1]

    async def settle(self) -> list[Message]:
        """Return all that comes while nobody does anything more."""
        messages = []
        while True:
            with trio.move_on_after(0.01) as waited:
                messages.append(await self.receive())
            if waited.cancelled_caught:
                return messages

    async def aclose(self) -> None:
        await self.connection.aclose()


@attrs.define(eq=False)
class RawPeer:
    """A peer that writes what it likes, and reads frames with wsproto."""

    stream: trio.abc.HalfCloseableStream
    protocol: Connection = attrs.Factory(lambda: Connection(ConnectionType.CLIENT))

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def shake_hands(self, target: str, *headers: str) -> str:
        """Write a handshake and return the head of the answer; the rest is for `read_event`."""
        await self.send(handshake(target, *headers))
        return await self.read_head()

    async def read_head(self) -> str:
        head = await self.try_read_head()
        assert head is not None, "closed before the end of the head"
        return head

    async def try_read_head(self) -> str | None:
        """Return the head of the answer; None if the server ends its side before."""
        raw = bytearray()
        with trio.fail_after(LONGEST_SECONDS):
            while b"\r\n\r\n" not in raw:
                data = await self.stream.receive_some()
                if not data:
                    return None
                raw += data
        head, _, rest = bytes(raw).partition(b"\r\n\r\n")
        self.protocol.receive_data(rest)
        return head.decode()

    async def read_event(self) -> Event | None:
        """Return the next event; None once the server has ended its side."""
        while (event := next(self.protocol.events(), None)) is None:
            with trio.fail_after(LONGEST_SECONDS):
                data = await self.stream.receive_some()
            if not data:
                return None
            self.protocol.receive_data(data)
        return event

    async def read_until(self, *kinds: type[Event]) -> Event | None:
        """Return the next event of these kinds; None if the server ends its side before."""
        while (event := await self.read_event()) is not None and not isinstance(event, kinds):
            pass
        return event

    async def read_message(self) -> Message:
        """Return the next message."""
        text, event = "", None
        while event is None or not event.message_finished:
            event = await self.read_until(TextMessage)
            assert isinstance(event, TextMessage), "no more messages"
            text += event.data
        message: Message = json.loads(text)
        return message

    async def read_pong(self) -> bytes:
        """Return the payload of the next pong."""
        event = await self.read_until(Pong)
        assert isinstance(event, Pong)
        return bytes(event.payload)

    async def wait_ping(self) -> None:
        """Wait for a ping, and leave it unanswered."""
        assert await self.read_until(Ping)

    async def read_close(self) -> tuple[int, str] | None:
        """Return code and reason of the close frame; None if the server ended its side without one."""
        event = await self.read_until(CloseConnection)
        assert event is None or isinstance(event, CloseConnection)
        return event and (int(event.code), event.reason or "")

    async def read_code(self) -> int | None:
        close = await self.read_close()
        return None if close is None else close[0]

    async def read_eof(self) -> bytes:
        """Return all that comes until the server ends its side."""
        raw = bytearray()
        with trio.fail_after(LONGEST_SECONDS):
            while data := await self.stream.receive_some():
                raw += data
        return bytes(raw)
