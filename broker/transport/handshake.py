"""What a connection need not remember of its handshake."""

from collections.abc import Generator

from trio_websocket import WebSocketConnection, WebSocketRequest
from wsproto.events import Event
from wsproto.handshake import H11Handshake


class _SpentHandshake(H11Handshake):
    """Stands where wsproto keeps its handshake, and has nothing more to say."""

    __slots__ = ()

    def __init__(self) -> None:
        """Hold nothing."""

    def events(self) -> Generator[Event, None, None]:
        """Give no events."""
        yield from ()


def forget_handshake(connection: WebSocketConnection, request: WebSocketRequest) -> None:
    """Free what an open connection keeps of its request: some 4 KiB.

    wsproto 1.3 keeps the HTTP/1.1 state to the end of the connection's life, and trio-websocket 0.12's reader the
    request until something else comes.
    """
    request.headers.clear()
    connection._wsproto.handshake = _SpentHandshake()  # noqa: SLF001
