"""The listening sockets of the server, and its addresses as text."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from functools import partial
from ipaddress import IPv6Address
from typing import Any, TypeAlias

import trio

from broker.config.settings import UNIX_PEER, ServerSettings
from broker.transport.unix_socket import listen_on_path, socket_path

Address: TypeAlias = tuple[Any, ...]
"""Host and port, and for IPv6 two numbers more."""

EVERY_ADDRESS = "::"
ATTEMPTS = 20
"""Attempts to find a port that is free on all addresses of the host."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


async def open_listeners(server: ServerSettings) -> list[trio.SocketListener]:
    """Listen on every address of the configured host, all with the same port, or on its Unix socket.

    :raises OSError: if one cannot be bound; its text names host and port.
    """
    try:
        path = socket_path(server.host)
        if path is not None:
            sock = listen_on_path(path, int(server.socket_mode, 8), server.backlog)
            return [trio.SocketListener(trio.socket.from_stdlib_socket(sock))]
        # Name resolution blocks.
        sockets = await trio.to_thread.run_sync(partial(bind_all, server, shared=False))
        return listen_on(sockets, server.backlog)
    except OSError as error:
        error.filename = authority(server.host, server.port)
        raise


def listen_on(sockets: list[socket.socket], backlog: int) -> list[trio.SocketListener]:
    """Begin to listen on bound sockets.

    :raises OSError: if one cannot listen; all are closed then.
    """
    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        for sock in sockets:
            sock.listen(backlog)
        stack.pop_all()
        return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def bind_all(server: ServerSettings, *, shared: bool) -> list[socket.socket]:
    """Bind every address of the configured host; port 0 becomes one that is free on all of them.

    An address that this machine does not have is left out if the name has another: `localhost` may stand for ::1
    where IPv6 is switched off. `shared` sockets may be bound by other processes of this user too (SO_REUSEPORT).

    :raises OSError: if one cannot be bound.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _bind_once(server, shared=shared)
        except OSError as error:
            if server.port or error.errno != errno.EADDRINUSE or attempt == ATTEMPTS:
                raise
    raise AssertionError("returned or raised")


def _bind_once(server: ServerSettings, *, shared: bool) -> list[socket.socket]:
    port = server.port
    addresses = _addresses(server.host, port)
    bound: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as stack:
        for family, (host, _, *rest) in addresses:
            is_alone = len(addresses) == 1
            try:
                sock = _bind(family, (host, port, *rest), shared=shared, is_alone=is_alone)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
                continue
            bound.append(stack.enter_context(sock))
            port = sock.getsockname()[1]
        if absent is not None and not bound:
            raise absent
        stack.pop_all()
    return bound


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    try:
        found = socket.getaddrinfo(
            without_brackets(host) or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except ValueError:
        # A name that cannot be resolved: an empty label, one of more than 63 bytes, half of a surrogate pair, NUL.
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    # A name may be listed twice.
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind(family: socket.AddressFamily, address: Address, *, shared: bool, is_alone: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `::` alone is every address, of IPv4 too, where the system can do that.
            is_dual = is_alone and address[0] == EVERY_ADDRESS
            with suppress(OSError) if is_dual else nullcontext():
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if is_dual else 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def without_brackets(host: str) -> str:
    """Return a host as the system's functions accept it: an IPv6 address without brackets."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def authority(host: str, port: int) -> str:
    """Return host and port; an IPv6 host is put in brackets (RFC 3986 section 3.2.2). That of a Unix socket is its path."""
    if socket_path(host) is not None:
        return host
    host = without_brackets(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(server: ServerSettings, name: Any) -> str:
    """Return the URL of a listener, given its `getsockname()`, with the host that was configured.

    A listener on another port is not the configured one: its own address is returned. That of a Unix socket is
    `unix:` and its path; `@` begins one that is in no file system.
    """
    if not isinstance(name, tuple):
        path = name if isinstance(name, str) else bytes(name).decode(errors="replace")
        return "unix:" + path.replace("\0", "@")
    own_host, port = str(name[0]), int(name[1])
    host = server.host if server.host and server.port in {0, port} else own_host
    return f"{scheme_of(server)}://{authority(host, port)}"


def scheme_of(server: ServerSettings) -> str:
    """Return the scheme of the server's URLs."""
    return "http" if server.tls_cert_file is None else "https"


def peer_address(name: Any) -> str:
    """Return the peer's IP address, given `getpeername()`; `unix` for a Unix socket.

    An IPv4 peer of a dual-stack socket has its IPv4 address.
    """
    if not isinstance(name, tuple):
        return UNIX_PEER
    address = str(name[0])
    if ":" not in address:
        return address
    mapped = IPv6Address(address).ipv4_mapped
    return address if mapped is None else str(mapped)


@asynccontextmanager
async def closing(listeners: list[trio.SocketListener]) -> AsyncIterator[None]:
    """Close `listeners` when the block is left, however."""
    try:
        yield
    finally:
        for listener in listeners:
            listener.socket.close()
