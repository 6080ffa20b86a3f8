"""One WebSocket of a client under test (RFC 6455), on which the kit may also do what no good server does."""

from collections.abc import Callable

import trio
from wsproto.connection import Connection as FrameReader
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from broker.conformance.steps import Frames
from broker.errors import CloseCode
from broker.transport.frames import PONG_OPCODE, close_frame, control_frame, text_frame
from broker.transport.handshake import offered_subprotocols
from broker.transport.head import Head

FRAGMENT_BYTES = 7
"""Small enough to divide characters, which only whole messages need not (section 5.6)."""
BYTE_SECONDS = 0.002
"""Delay between single bytes."""
PING = b"\x89\x04ping"
PING_CONTENT = b"ping"


class ViolationError(Exception):
    """The client sent what no server accepts."""


class Connection:
    """A connection after its handshake. `ending` says how it ended, None while it is open."""

    def __init__(self, stream: trio.abc.Stream, head: Head) -> None:
        self._stream = stream
        self._frames = FrameReader(ConnectionType.SERVER)
        self._frames.receive_data(head.behind)
        self._writing = trio.Lock()
        self._parts: list[str] = []
        self.opened_at = trio.current_time()
        self.ending: str | None = None
        self.is_ended_by_kit = False
        self.is_silent = False
        self.pongs = 0

    async def receive(self, on_pong: Callable[[], None]) -> str | None:  # noqa: C901  # one case for each event
        """Wait for a message; None once the connection has ended. Pings are answered meanwhile.

        :raises ViolationError: if the client breaks the WebSocket protocol, or sends a binary message.
        """
        while True:
            for event in self._frames.events():
                match event:
                    case TextMessage():
                        self._parts.append(event.data)
                        if event.message_finished:
                            text, self._parts = "".join(self._parts), []
                            return text
                    case BytesMessage():
                        raise ViolationError("a binary message")
                    case Ping():
                        await self.send_bytes(control_frame(PONG_OPCODE, bytes(event.payload)))
                    case Pong():
                        self.pongs += bytes(event.payload) == PING_CONTENT
                        on_pong()
                    case CloseConnection():
                        await self._answer_close(event)
                        return None
                    case _:
                        pass
            try:
                data = await self._stream.receive_some(65_536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self._end("the client ended it without a close frame")
                return None
            self._frames.receive_data(bytes(data))

    async def send(self, payload: bytes, frames: Frames = "whole") -> None:
        """Send a text message; without effect once the connection has ended."""
        match frames:
            case "whole":
                await self.send_bytes(text_frame(payload))
            case "fragments":
                await self.send_bytes(PING.join(_fragments(payload)))
            case "bytes":
                await self.send_bytes(text_frame(payload), BYTE_SECONDS)

    async def ping(self) -> None:
        """Send a ping frame."""
        await self.send_bytes(PING)

    async def send_bytes(self, data: bytes, byte_seconds: float | None = None) -> None:
        """Send bytes, one by one with a delay if it is given; without effect once the connection has ended."""
        pieces = [data] if byte_seconds is None else [data[i : i + 1] for i in range(len(data))]
        async with self._writing:
            try:
                for piece in pieces:
                    if self.is_silent:
                        return
                    await self._stream.send_all(piece)
                    if byte_seconds is not None:
                        await trio.sleep(byte_seconds)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._end("the client ended it without a close frame")

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame; `receive` then returns once the client has answered it."""
        self.end_by_kit(f"the kit closed it with code {code}")
        await self.send_bytes(close_frame(code, reason))

    async def cut(self) -> None:
        """End the connection without a close frame."""
        self.end_by_kit("the kit cut it")
        await trio.aclose_forcefully(self._stream)

    def end_by_kit(self, ending: str) -> None:
        """Note that the kit ends the connection."""
        self.is_ended_by_kit = True
        self._end(ending)

    async def _answer_close(self, event: CloseConnection) -> None:
        """Handle a close frame, or what wsproto gives in place of frames that are invalid."""
        if self._frames.state is ConnectionState.OPEN:
            raise ViolationError(f"invalid WebSocket frames: {event.reason}")
        if not self.is_ended_by_kit:
            self._end(f"the client closed it with code {int(event.code)}")
            await self.send_bytes(close_frame(CloseCode.NORMAL, ""))

    def _end(self, ending: str) -> None:
        if self.ending is None:
            self.ending = ending


def subprotocol_of(head: Head) -> str | None:
    """Return the subprotocol that the server selects; None if the client does not offer it."""
    return "greenroom.v1" if "greenroom.v1" in offered_subprotocols(head) else None


def _fragments(payload: bytes) -> list[bytes]:
    """Return the frames of one message in fragments (section 5.4)."""
    pieces = [payload[i : i + FRAGMENT_BYTES] for i in range(0, len(payload), FRAGMENT_BYTES)]
    last = len(pieces) - 1
    return [
        bytes([(number == last) << 7 | (number == 0), len(piece)]) + piece
        for number, piece in enumerate(pieces)
    ]
