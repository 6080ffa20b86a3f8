"""When a socket last sent something, as its kernel knows it: nothing has to be noted for each write."""

import socket
import struct
import sys
from contextlib import closing, suppress

_LAST_DATA_SENT = struct.Struct("=44xI")
"""`tcpi_last_data_sent` in struct tcp_info of linux/tcp.h, milliseconds."""


def seconds_since_sent(descriptor: int | None) -> float | None:
    """Return how long ago data were last sent; None where the kernel does not say: other systems, and Unix sockets."""
    if descriptor is None or sys.platform != "linux":
        return None
    with suppress(OSError), closing(BorrowedSocket(fileno=descriptor)) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_SENT.size)
        if len(info) == _LAST_DATA_SENT.size:
            (milliseconds,) = _LAST_DATA_SENT.unpack(info)
            return float(milliseconds) / 1000
    return None


class BorrowedSocket(socket.socket):
    """A socket whose descriptor stays open as this is closed."""

    def close(self) -> None:
        """Give the descriptor back."""
        self.detach()
