"""Origins as browsers send them in the Origin header (RFC 6454 section 6.1, the URL standard's host serializer). Pure."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

ANY = "*"
OPAQUE = ("null", "file://")
"""Sent by browsers and web views for pages without an origin; allowed where listed."""

_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^/?#@:\[\]\\]+)(?::(?P<port>[0-9]{0,5}))?/?",
    re.IGNORECASE | re.ASCII,
)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "such as https://app.example or http://localhost:3000"


def normal_origin(text: str) -> str:
    """Return an origin as a browser writes it, or `*`.

    :raises ValueError: with the reason, if no browser can send it.
    """
    given = text.strip()
    if given == ANY or given.lower() in OPAQUE:
        return given.lower()
    if "*" in given:
        raise ValueError(f"no pattern: list each origin, {_EXAMPLE}, or * alone for any")
    if not given.isascii():
        raise ValueError("must be written as browsers send it: a host with other letters begins with xn--")
    parts = _PARTS.fullmatch(given)
    if parts is None:
        raise ValueError(
            f"must be scheme://host or scheme://host:port without anything behind it, {_EXAMPLE}"
        )
    scheme, port = parts["scheme"].lower(), int(parts["port"] or 0)
    if scheme in {"ws", "wss"}:
        raise ValueError(f"is an address of WebSockets: the origin is that of the page, {_EXAMPLE}")
    if port > 65_535 or (parts["port"] and port == 0):
        raise ValueError("has a port that is none: from 1 to 65535")
    shown_port = "" if port in {0, _DEFAULT_PORTS.get(scheme)} else f":{port}"
    return f"{scheme}://{_normal_host(parts['host'].lower())}{shown_port}"


def _normal_host(host: str) -> str:
    if host.startswith("["):
        return f"[{_normal_ipv6(host[1:-1])}]"
    if _HOST.fullmatch(host) is None:
        raise ValueError(f"has a host that is none, {_EXAMPLE}")
    last = host.rstrip(".").rpartition(".")[2]
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        # Browsers take what ends in a number for an IPv4 address, and write it in the one usual way.
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise ValueError(
                "has a host that ends in a number and is no IPv4 address such as 127.0.0.1"
            ) from None
    return host


def _normal_ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise ValueError("has a host in brackets that is no IPv6 address") from None
    mapped = address.ipv4_mapped
    if mapped is None:
        return str(address)
    # Python versions differ in how they write these; browsers write no dots.
    high, low = divmod(int(mapped), 1 << 16)
    return f"::ffff:{high:x}:{low:x}"
