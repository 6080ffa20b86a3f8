"""Accepting: as many connections in one turn of the scheduler as the kernel holds."""

from collections import deque
from contextlib import closing

import trio

from broker.transport.last_sent import BorrowedSocket

MOST_AT_ONCE = 4096
"""Connections accepted in one turn: as many as `server.backlog` lets wait by default."""


class EagerListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts all waiting connections in one turn of the scheduler; for trio.serve_listeners, which starts a task for each.

    trio's own listener accepts one in each turn. While thousands come back to a restarted node, turns are long and the
    kernel's queue is full: it drops handshakes (listen(2)), and clients wait for ever later retransmissions.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        """Take over the listener."""
        self._listener = listener
        self._accepted: deque[trio.SocketStream] = deque()

    async def accept(self) -> trio.SocketStream:
        """Return the next connection; a checkpoint only where none is left of those accepted before.

        Cancellation loses no connection.

        :raises OSError: as trio.SocketListener.accept does.
        :raises trio.ClosedResourceError: if the listener was closed.
        """
        if not self._accepted:
            self._accepted.append(await self._listener.accept())
            self._accept_others()
        return self._accepted.popleft()

    def _accept_others(self) -> None:
        with closing(BorrowedSocket(fileno=self._listener.socket.fileno())) as sock:
            while len(self._accepted) < MOST_AT_ONCE:
                try:
                    accepted, _ = sock.accept()
                except OSError:
                    # None waits, or trio's accept finds and handles the same.
                    return
                self._accepted.append(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()
