"""The client behind a proxy: which proxies are trusted, and whom a connection or a request through them is from. Pure.

Nothing is believed of anybody but a trusted proxy: whoever connects can write `X-Forwarded-For`, too.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs

from broker.config.settings import UNIX_PEER, ServerSettings

_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[0-9]{1,5}")
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf"{_WORD}=(?:{_WORD}|\"(?:[^\"\\]|\\.)*\")"
_ELEMENT = re.compile(rf"[ \t]*{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*[ \t]*")
"""One element of `Forwarded` (RFC 7239 section 4)."""
_FOR = re.compile(rf"(?:^|;)[ \t]*for=({_WORD}|\"(?:[^\"\\]|\\.)*\")", re.IGNORECASE)


@attrs.frozen
class Forwarding:
    """The proxies that are trusted, and what they say about their clients."""

    networks: Sequence[IPv4Network | IPv6Network]
    trusts_unix: bool
    header: bytes
    """The one header that the proxies write, in lower case; another is the client's own."""
    begins_with_proxy_header: bool
    """Whether each connection of a trusted proxy begins with a header of the PROXY protocol."""

    @classmethod
    def of(cls, settings: ServerSettings) -> "Forwarding | None":
        """Return the forwarding of checked settings; None if no proxy is trusted."""
        if not settings.trusted_proxies:
            return None
        return cls(
            [ip_network(text) for text in settings.trusted_proxies if text != UNIX_PEER],
            UNIX_PEER in settings.trusted_proxies,
            settings.forwarded_header.encode(),
            settings.proxy_protocol,
        )

    def trusts(self, address: str) -> bool:
        """Whether a peer, by its IP address or `unix`, is a trusted proxy."""
        if address == UNIX_PEER:
            return self.trusts_unix
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self.networks)

    def client_of(self, peer: str, values: Sequence[bytes]) -> str:
        """Return the address of the client of a request that `peer` sent; `values` are all headers of the name `header`.

        Each proxy adds the address that it was called from, behind those that it was told. So the list is read from its
        end, up to the first address that is no trusted proxy. If that proxy did not tell an address, it is the proxy's.
        """
        client = peer
        rest = b",".join(values).decode("latin-1")
        while rest and self.trusts(client):
            if self.header == b"forwarded":
                rest, node = _last_forwarded(rest)
            else:
                rest, _, node = rest.rpartition(",")
            address = _address_of_node(node)
            if address is None:
                break
            client = address
        return client


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address without its zone, and IPv4 within IPv6 as IPv4; None if the text is none."""
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return parsed if mapped is None else mapped


def _last_forwarded(text: str) -> tuple[str, str]:
    """Return `Forwarded` without its last element, and the node that this one is for, empty if it names none.

    The shortest element at the end is the proxy's: what stands before it may be a client's, with a quote that is open.
    """
    comma = len(text)
    while comma > 0:
        comma = text.rfind(",", 0, comma)
        element = text[comma + 1 :]
        if _ELEMENT.fullmatch(element) is not None:
            node = _FOR.search(element)
            return text[: max(comma, 0)], "" if node is None else _unquoted(node[1])
    return "", ""


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address_of_node(node: str) -> str | None:
    """Return the address of a node, which may have a port; None for `unknown`, a hidden name (RFC 7239 section 6), or rubbish."""
    host = node.strip(" \t")
    with_port = _PORT.fullmatch(host)
    if with_port is not None:
        host = with_port[1]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    parsed = _parse(host)
    return None if parsed is None else str(parsed)
