"""The address of a server."""

from urllib.parse import quote, urlsplit

import attrs

from broker.client.errors import AddressError

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@attrs.frozen
class Address:
    """The parts of an address that a connection to `/ws` needs."""

    host: str
    port: int
    is_tls: bool
    authority: str
    """For the Host header (RFC 9110 section 7.2)."""
    target: str


def parse_address(url: str) -> Address:
    """Read a server's address; a path is kept before `/ws`, for servers behind a proxy.

    :raises AddressError: if it is no http://, https://, ws:// or wss:// address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts.hostname or "")
        # Percent-encoded octets stay as they are.
        target = quote(f"{parts.path.rstrip('/')}/ws", safe="/%:@!$&'()*+,;=-._~")
    except (ValueError, TypeError, AttributeError) as error:
        raise AddressError(f"{url!r} is no http://, https://, ws:// or wss:// address: {error}") from None
    if parts.scheme not in _PORTS or not host:
        raise AddressError(f"{url!r} is no http://, https://, ws:// or wss:// address")
    return Address(
        host=host,
        port=port or _PORTS[parts.scheme],
        is_tls=parts.scheme in {"https", "wss"},
        authority=(f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}"),
        target=target,
    )


def ascii_host(host: str) -> str:
    """Return a host's name as it is looked up and sent (RFC 5890).

    :raises ValueError: if no host can have it.
    """
    ascii_host = host if host.isascii() else host.encode("idna").decode()
    ascii_host.encode("idna")  # as the standard library does when it looks it up
    if not all("\x21" <= character <= "\x7e" for character in ascii_host):
        raise ValueError("no host has such a name")
    return ascii_host
