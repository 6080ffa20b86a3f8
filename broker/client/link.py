"""One connection to one room."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket_url

from broker.errors import GreenroomError
from broker.model import Position

Message: TypeAlias = dict[str, Any]

NO_CODE = 1006
"""What a connection that ended without a close frame is said to have been closed with (RFC 6455 7.1.5)."""


class LinkClosedError(GreenroomError):
    """The connection could not be made, or has ended; `code` decides whether to make it again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            reason if code == NO_CODE and reason else f"{reason or 'connection closed'} ({code})"
        )
        self.code = code


class Link:
    """A room as one connection sees it; made by `open_link`."""

    def __init__(self, connection: WebSocketConnection, joined: Message) -> None:
        self.joined = joined
        """The room's `joined` message."""
        self._connection = connection

    async def receive(self) -> Message:
        """Wait for the next message; if cancelled, none is lost.

        :raises LinkClosedError: when the connection ends.
        """
        try:
            message: Message = msgspec.json.decode(await self._connection.get_message(), type=dict[str, Any])
        except ConnectionClosed as error:
            raise _as_link_closed(error) from None
        return message

    async def chat(self, text: str) -> Message:
        """Say a text and wait for its `ack`, or for the `error` that came instead; skips other messages.

        If cancelled, it may or may not be said.

        :raises LinkClosedError: when the connection ends before.
        """
        # The id makes a repetition known for some minutes, so it must be of this text alone.
        request_id = secrets.token_hex(16)
        request = {"type": "chat", "text": text, "id": request_id}
        try:
            await self._connection.send_message(msgspec.json.encode(request).decode())
        except ConnectionClosed as error:
            raise _as_link_closed(error) from None
        while True:
            message = await self.receive()
            if message["type"] in {"ack", "error"} and message.get("id") == request_id:
                return message


def _as_link_closed(error: ConnectionClosed) -> LinkClosedError:
    reason = error.reason
    if reason is None:
        return LinkClosedError(NO_CODE, "")
    return LinkClosedError(reason.code, reason.reason or "")


def room_url(server: str, room: str, since: Position | None) -> str:
    """Return the WebSocket address of a room on a server given as http(s):// or ws(s)://.

    :raises ValueError: if `server` is no such address.
    """
    parts = urlsplit(server)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError(f"{server!r} is no http://, https://, ws:// or wss:// address")
    query = "" if since is None else "?" + urlencode({"offset": since.offset, "epoch": since.epoch})
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws/{quote(room, safe='')}{query}"


@asynccontextmanager
async def open_link(
    server: str, room: str, token: str, *, since: Position | None = None, timeout_seconds: float = 10.0
) -> AsyncIterator[Link]:
    """Connect to a room and wait for its `joined`; leaving the block closes the connection.

    The token travels as a subprotocol, so that it is in no address and in no log of one.

    :raises LinkClosedError: if the connection cannot be made or the server refuses.
    :raises ValueError: if `server` is no address.
    """
    opening = open_websocket_url(
        room_url(server, room, since),
        subprotocols=["greenroom.v1", f"bearer.{token}"],
        connect_timeout=timeout_seconds,
        disconnect_timeout=timeout_seconds,
    )
    async with AsyncExitStack() as stack:
        try:
            link = Link(await stack.enter_async_context(opening), {})
            with trio.fail_after(timeout_seconds):
                link.joined = await link.receive()
        except trio.TooSlowError:
            raise LinkClosedError(NO_CODE, "the server does not answer") from None
        except (HandshakeError, OSError) as error:
            # trio-websocket's errors carry no text of their own.
            raise LinkClosedError(
                NO_CODE, f"cannot connect to {server}: {error.__cause__ or error}"
            ) from None
        yield link
