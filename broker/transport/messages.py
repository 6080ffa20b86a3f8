"""The messages of one connection, in order: through the fast lane, or through trio-websocket."""

from collections.abc import Callable

import trio
from trio_websocket import WebSocketConnection

from broker.sessions.session import Rest
from broker.transport.lane import TextLane
from broker.transport.websocket_stream import WebSocketStream


class Messages:
    """Has messages handled in the lane, and brings to the connection's task the others and what has to wait."""

    def __init__(
        self,
        connection: WebSocketConnection,
        stream: WebSocketStream,
        limit_bytes: int,
        handle_nowait: Callable[[str], Rest | None],
    ) -> None:
        """`handle_nowait` handles a message as far as that needs no waiting, and returns the rest; it must not raise."""
        self._connection = connection
        self._stream = stream
        self._handle_nowait = handle_nowait
        self._lane = TextLane(limit_bytes, self._handle)
        self._is_begun = False
        self._rest: Rest | None = None
        self._waiting = trio.CancelScope()

    def _handle(self, text: str) -> bool:
        self._rest = self._handle_nowait(text)
        if self._rest is None:
            return True
        self._stream.pause_lane()
        self._waiting.cancel()
        return False

    async def receive(self) -> str | bytes | Rest:
        """Return a message that the lane has not handled, or the rest of one that it has begun.

        The one returned before counts as handled by now: until then the lane is paused, before the first call closed.

        :raises ConnectionClosed: when the peer has closed, behind all that came before.
        """
        if self._is_begun:
            self._stream.note_handled()
        else:
            self._is_begun = True
            self._stream.use_lane(self._lane)
        with trio.CancelScope() as self._waiting:
            return await self._connection.get_message()
        rest, self._rest = self._rest, None
        assert rest is not None, "only the lane cancels"
        return rest
