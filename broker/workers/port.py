"""One port for several processes: SO_REUSEPORT lets each listen, and the kernel deals connections out."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import trio

from broker.config.settings import ServerSettings

_Address: TypeAlias = tuple[Any, ...]
"""Host and port, and for IPv6 two numbers more."""


@contextmanager
def reserve_port(server: ServerSettings) -> Iterator[int]:
    """Hold the configured port without listening, so that only our workers listen on it; gives its number.

    :raises OSError: if it cannot be had, or another program has it.
    """
    port = server.port
    with ExitStack() as stack:
        for family, (host, _, *rest) in _addresses(server.host, port):
            # Port 0 takes a free one for the first address, and that for the others.
            address = (host, port, *rest)
            if port:
                # With SO_REUSEPORT alone, another group of workers would share its connections with ours.
                _bind(family, address, shared=False).close()
            holder = stack.enter_context(_bind(family, address, shared=True))
            port = holder.getsockname()[1]
        yield port


def open_shared_listeners(server: ServerSettings) -> list[trio.SocketListener]:
    """Listen on the configured port beside other workers; needs a port that is reserved.

    :raises OSError: if that cannot be.
    """
    listeners = []
    for family, address in _addresses(server.host, server.port):
        sock = trio.socket.from_stdlib_socket(_bind(family, address, shared=True))
        sock.listen(server.backlog)
        listeners.append(trio.SocketListener(sock))
    return listeners


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, _Address]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may be listed twice.
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind(family: socket.AddressFamily, address: _Address, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
