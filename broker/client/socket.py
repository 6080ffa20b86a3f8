"""One WebSocket connection of a client (RFC 6455): wsproto over a stream of anyio, so under trio and asyncio alike."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from anyio.abc import ByteStream
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from actors.groups import leaves
from broker.client.address import Address
from broker.client.effects import Message
from broker.client.errors import NO_CODE, ClosedError
from broker.client.reasons import why
from broker.client.wire import read_message
from broker.clocks import Clock
from broker.errors import CloseCode

MESSAGE_BYTES = 64 << 20
"""Largest message accepted from a server: `joined` carries all missed messages."""

RECEIVE_BYTES = 65_536
CLOSE_SECONDS = 1.0
"""How long the closing handshake may take."""


class SocketClosed(Exception):
    """The connection could not be made, or has ended, with this close code.

    With `final`, no other is to be made.
    """

    def __init__(self, code: int, reason: str, final: ClosedError | None = None) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason
        self.final = final


class Socket:
    """A connection. One task receives, and any may send."""

    def __init__(self, stream: ByteStream, clock: Clock, *, compression: bool = False) -> None:
        """With `compression` it offers permessage-deflate, without context takeover.

        wsproto inflates what one read brings, so a server may make a read of RECEIVE_BYTES a thousand times as large.
        """
        self._stream = stream
        self._compression = compression
        self._clock = clock
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._writing = anyio.Lock()
        self._parts: list[str] = []
        self._size = 0
        self.last_received = clock()
        """When any byte last came, on the client's clock."""

    async def shake_hands(self, address: Address, token: str) -> None:
        """Open the connection. The token travels as a subprotocol, so that it is in no URL that is logged.

        :raises SocketClosed: if the server refuses, or is none.
        """
        offers = [PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)]
        await self._write(
            Request(
                address.authority,
                address.target,
                extensions=list(offers) if self._compression else [],
                subprotocols=["greenroom.v1", f"bearer.{token}"],
            )
        )
        while True:
            for event in self._protocol.events():
                match event:
                    case AcceptConnection():
                        return
                    case RejectConnection():
                        raise SocketClosed(
                            NO_CODE, f"the server refused with HTTP status {event.status_code}"
                        )
                    case _:
                        pass
            try:
                await self._read()
            except RemoteProtocolError:
                raise SocketClosed(
                    NO_CODE, f"what answers at {address.authority} is no WebSocket server"
                ) from None
            except SocketClosed:
                reason = f"{address.authority} closed the connection without an answer"
                raise SocketClosed(NO_CODE, reason) from None

    async def receive(self) -> tuple[Message | None, int]:
        """Wait for a message; returns it (see `read_message`) with its size in bytes (of the text's characters).

        :raises SocketClosed: when the connection ends.
        """
        while True:
            for event in self._protocol.events():
                match event:
                    case TextMessage():
                        if (text := self._joined(event)) is not None:
                            return read_message(text), len(text)
                    case BytesMessage():
                        # No message of ours is binary.
                        if event.message_finished:
                            return None, 0
                    case Ping():
                        if self._protocol.state is ConnectionState.OPEN:
                            with suppress(SocketClosed):
                                await self._write(event.response())
                    case CloseConnection():
                        await self._answer_close(event)
                        raise SocketClosed(int(event.code), event.reason or "")
                    case _:
                        pass
            await self._read()

    async def send(self, text: str) -> None:
        """Write a message; if cancelled, the connection cannot be used any more.

        :raises SocketClosed: if the connection has ended.
        """
        try:
            await self._write(TextMessage(text))
        except SocketClosed as error:
            ended = error
        else:
            return
        # The code with which the server closed is still to be read.
        await anyio.sleep(CLOSE_SECONDS)
        raise ended

    async def close(self) -> None:
        """Close the connection properly, for at most CLOSE_SECONDS, also when cancelled."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(SocketClosed):
            await self._write(CloseConnection(CloseCode.NORMAL))
            while True:
                await self.receive()

    def _joined(self, event: TextMessage) -> str | None:
        """Return a whole message, None while parts of it are missing."""
        if event.message_finished and not self._parts:
            return event.data
        self._parts.append(event.data)
        self._size += len(event.data)
        if self._size > MESSAGE_BYTES:
            raise SocketClosed(NO_CODE, f"a message of the server is larger than {MESSAGE_BYTES} bytes")
        if not event.message_finished:
            return None
        text = "".join(self._parts)
        self._parts, self._size = [], 0
        return text

    async def _answer_close(self, event: CloseConnection) -> None:
        """Answer the server's close frame, or end a connection on which it broke the protocol (section 7.1.7)."""
        if self._protocol.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
            with anyio.move_on_after(CLOSE_SECONDS), suppress(SocketClosed):
                await self._write(event.response())

    async def _read(self) -> None:
        try:
            received = await self._stream.receive(RECEIVE_BYTES)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            raise SocketClosed(NO_CODE, "") from None
        self.last_received = self._clock()
        self._protocol.receive_data(received)

    async def _write(self, event: Event) -> None:
        async with self._writing:
            try:
                await self._stream.send(self._protocol.send(event))
            except (LocalProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                raise SocketClosed(NO_CODE, "") from None


async def hold_socket(
    dial: Callable[[], Awaitable[ByteStream]],
    address: Address,
    token: str,
    talk: Callable[[Socket, str], Awaitable[None]],
    clock: Clock,
    *,
    timeout_seconds: float,
    compression: bool = False,
) -> SocketClosed:
    """Connect, let `talk` use the connection until it raises SocketClosed, and return that.

    When cancelled, the connection is closed properly, for at most CLOSE_SECONDS.
    """
    endings: list[SocketClosed] = []
    try:
        with anyio.fail_after(timeout_seconds) as opening:
            stream = await dial()
            try:
                socket = Socket(stream, clock, compression=compression)
                await socket.shake_hands(address, token)
                opening.deadline = math.inf
                try:
                    await talk(socket, token)
                finally:
                    await socket.close()  # noqa: ASYNC102  # shields itself, with a deadline
            finally:
                await anyio.aclose_forcefully(stream)
    except* SocketClosed as group:
        endings += leaves(group)
    except* TimeoutError:
        endings.append(SocketClosed(NO_CODE, "the server does not answer"))
    except* OSError as group:
        endings.append(SocketClosed(NO_CODE, f"cannot connect to {address.authority}: {why(group)}"))
    return max(endings, key=lambda ending: (ending.final is not None, ending.code != NO_CODE))
