"""The messages of one connection, in order: through the fast lane, or through trio-websocket."""

from collections.abc import Callable

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

    def _handle(self, text: str) -> bool:
        rest = self._handle_nowait(text)
        if rest is None:
            return True
        self._stream.pause_lane()
        # The queue that the connection's task waits on is private in trio-websocket 0.12. It is empty while the lane is
        # open. The other way to wake the task, a cancel scope around each wait, costs every join 1 %.
        self._connection._send_channel.send_nowait(rest)  # type: ignore[arg-type]  # noqa: SLF001
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
        message: str | bytes | Rest = await self._connection.get_message()
        return message
