"""One WebSocket connection of a client, over trio-websocket."""

import math
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from actors.groups import leaves
from broker.client.address import Address
from broker.client.effects import Message
from broker.client.errors import NO_CODE
from broker.client.reasons import why
from broker.client.wire import read_message
from broker.clocks import Clock

Dial: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens a stream of bytes to the server; raises OSError if that fails."""

MESSAGE_BYTES = 64 << 20
"""Largest message accepted from a server: `joined` carries all missed messages."""

RECEIVE_BYTES = 65_536
CLOSE_SECONDS = 1.0
"""How long the closing handshake may take."""


class SocketClosed(Exception):
    """The connection could not be made, or has ended, with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


def dial_tcp(address: Address, ssl_context: ssl.SSLContext | None) -> Dial:
    """Return a function that connects over TCP, with TLS where the address asks for it."""

    async def dial() -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(address.host, address.port)
        if not address.is_tls:
            return stream
        context = ssl_context or ssl.create_default_context()
        # The closing handshake of WebSocket shows truncation, so that of TLS is not waited for.
        secure = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure

    return dial


class _WatchedStream(trio.abc.Stream):
    """Records when bytes last came, and whether the peer is gone."""

    def __init__(self, inner: trio.abc.Stream, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self.last_received = clock()
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._inner.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        received: bytes | bytearray = b""
        try:
            received = await self._inner.receive_some(max_bytes)
        finally:
            if not received:
                self.ended.set()
        self.last_received = self._clock()
        return received

    async def aclose(self) -> None:
        self.ended.set()
        await self._inner.aclose()


@attrs.frozen
class Socket:
    """A connection that is open. One task receives and one sends."""

    _connection: WebSocketConnection
    _stream: _WatchedStream

    @property
    def last_received(self) -> float:
        """When any byte last came, on the client's clock."""
        return self._stream.last_received

    async def receive(self) -> tuple[Message | None, int]:
        """Wait for a message; returns it (see `read_message`) with its size in bytes (of the text's characters).

        :raises SocketClosed: when the connection ends.
        """
        try:
            text = await self._connection.get_message()
        except ConnectionClosed as error:
            raise _as_socket_closed(error) from None
        # No message of ours is binary.
        return read_message(text) if isinstance(text, str) else None, len(text)

    async def send(self, text: str) -> None:
        """Write a message; if cancelled, the connection cannot be used any more.

        :raises SocketClosed: if the connection has ended.
        """
        try:
            await self._connection.send_message(text)
        except ConnectionClosed as error:
            raise _as_socket_closed(error) from None


def _as_socket_closed(error: ConnectionClosed) -> SocketClosed:
    reason = error.reason
    if reason is None:
        return SocketClosed(NO_CODE, "")
    return SocketClosed(reason.code, reason.reason or "")


async def hold_socket(
    dial: Dial,
    address: Address,
    token: str,
    talk: Callable[[Socket], Awaitable[None]],
    clock: Clock,
    *,
    timeout_seconds: float,
) -> SocketClosed:
    """Connect, let `talk` use the connection until it raises SocketClosed, and return that.

    The token travels as a subprotocol, so that it is in no URL that is logged. When cancelled, the
    connection is closed properly, for at most CLOSE_SECONDS.
    """
    endings: list[SocketClosed] = []
    try:
        with trio.fail_after(timeout_seconds) as opening:
            stream = _WatchedStream(await dial(), clock)
            try:
                await _converse(stream, address, token, talk, opening)
            finally:
                await trio.aclose_forcefully(stream)
    except* SocketClosed as group:
        endings += leaves(group)
    except* ConnectionRejected as group:
        status = leaves(group)[0].status_code
        endings.append(SocketClosed(NO_CODE, f"the server refused with HTTP status {status}"))
    except* (LocalProtocolError, ConnectionClosed):
        # The reader of trio-websocket 0.12.2 fails over a ping that comes behind our close frame.
        endings.append(SocketClosed(NO_CODE, ""))
    except* trio.TooSlowError:
        endings.append(SocketClosed(NO_CODE, "the server does not answer"))
    except* (OSError, trio.BrokenResourceError) as group:
        endings.append(SocketClosed(NO_CODE, f"cannot connect to {address.authority}: {why(group)}"))
    return endings[0]


async def _converse(
    stream: _WatchedStream,
    address: Address,
    token: str,
    talk: Callable[[Socket], Awaitable[None]],
    opening: trio.CancelScope,
) -> None:
    async with trio.open_nursery() as nursery:
        reading = await nursery.start(_keep_reading)
        try:
            connection = await _shake_hands(reading, stream, address, token)
            opening.deadline = math.inf
            try:
                await talk(Socket(connection, stream))
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                    await connection.aclose()
        finally:
            reading.cancel_scope.cancel()


async def _keep_reading(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Give a nursery for the reader that is not cancelled from outside: the peer's answer to our close is to be read.

    It lives for as long as `_converse` waits for that at most, and is cancelled there.
    """
    async with trio.open_nursery() as reading:
        reading.cancel_scope.shield = True
        task_status.started(reading)
        await trio.sleep_forever()


async def _shake_hands(
    reading: trio.Nursery, stream: _WatchedStream, address: Address, token: str
) -> WebSocketConnection:
    connection: WebSocketConnection | None = None
    async with trio.open_nursery() as watch:

        async def give_up_when_ended() -> None:
            await stream.ended.wait()
            watch.cancel_scope.cancel()

        # trio-websocket 0.12.2 waits for ever when the peer goes away without an answer.
        watch.start_soon(give_up_when_ended)
        connection = await wrap_client_stream(
            reading,
            stream,  # type: ignore[arg-type]  # any stream does
            address.authority,
            address.target,
            subprotocols=["greenroom.v1", f"bearer.{token}"],
            max_message_size=MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        watch.cancel_scope.cancel()
    if connection is None:
        raise SocketClosed(NO_CODE, f"{address.authority} closed the connection without an answer")
    return connection
