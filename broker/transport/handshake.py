"""What a connection need not remember of its handshake."""

from collections.abc import Generator

from trio_websocket import WebSocketConnection
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


def forget_handshake(connection: WebSocketConnection) -> None:
    """Free the HTTP/1.1 state that an open connection of wsproto 1.3 keeps: some 3 KiB, to the end of its life."""
    connection._wsproto.handshake = _SpentHandshake()  # noqa: SLF001
