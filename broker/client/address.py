"""Where a server is."""

from urllib.parse import urlsplit

import attrs

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@attrs.frozen
class Address:
    """What is needed to connect to a server's `/ws`."""

    host: str
    port: int
    is_tls: bool
    authority: str
    """For the Host header (RFC 9110 section 7.2)."""
    target: str


def parse_address(url: str) -> Address:
    """Read a server's address; a path is kept before `/ws`, for servers behind a proxy.

    :raises ValueError: if it is no http://, https://, ws:// or wss:// address.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no http://, https://, ws:// or wss:// address")
    return Address(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        is_tls=parts.scheme in {"https", "wss"},
        authority=parts.netloc.rpartition("@")[2],
        target=f"{parts.path.rstrip('/')}/ws",
    )
