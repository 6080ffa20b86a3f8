"""The messages of one connection, in order: through the fast path, or through trio-websocket."""

from collections.abc import Callable

from trio_websocket import WebSocketConnection

from broker.sessions.session import Rest
from broker.transport.fast_path import FastPath
from broker.transport.websocket_stream import WebSocketStream


class Messages:
    """Handles messages in the fast path, and brings all others to the connection's task, and the rest of those that wait."""

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
        self._fast_path = FastPath(limit_bytes, self._handle)
        self._is_begun = False

    def _handle(self, text: str) -> bool:
        rest = self._handle_nowait(text)
        if rest is None:
            return True
        self._stream.pause_fast_path()
        # The connection's task waits on this queue, which is private in trio-websocket 0.12, and empty while the fast
        # path is open. The other way to wake the task, a cancel scope around each wait, costs every join 1 %.
        self._connection._send_channel.send_nowait(rest)  # type: ignore[arg-type]  # noqa: SLF001
        return False

    async def receive(self) -> str | bytes | Rest:
        """Wait for a message of trio-websocket's, or for the rest of one that the fast path has begun.

        A call marks the message before as handled; until then the fast path is paused, and before the first call closed.

        :raises ConnectionClosed: when the peer has closed, behind all messages.
        """
        if self._is_begun:
            self._stream.note_handled()
        else:
            self._is_begun = True
            self._stream.use_fast_path(self._fast_path)
        message: str | bytes | Rest = await self._connection.get_message()
        return message
