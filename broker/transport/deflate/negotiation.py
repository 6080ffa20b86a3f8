"""The agreement on permessage-deflate in the opening handshake (RFC 7692 sections 5 and 7.1). Pure."""

import re
from collections.abc import Iterable, Sequence

import attrs

MAX_WINDOW_BITS = 15
MIN_WINDOW_BITS = 9
"""zlib makes no raw DEFLATE data for a window of 8 bits, so an offer that asks for it is declined (section 7.1.2.1)."""

_NAME = b"permessage-deflate"
_WITHOUT_TAKEOVER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_PART = re.compile(
    rb"""[ \t]*([^\s,;="]*)(?:[ \t]*=[ \t]*(?:([^\s,;="]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*([,;]|\Z)"""
)
"""The name of an extension or a parameter, its value, and the end of the part."""
_ESCAPED = re.compile(rb"\\(.)")
_WINDOW_BITS = {b"%d" % bits: bits for bits in range(8, MAX_WINDOW_BITS + 1)}
"""By their text, which has no leading zero (section 7.1.2)."""


@attrs.frozen
class Offer:
    """An extension that a client offers, with its parameters in order."""

    name: bytes
    parameters: Sequence[tuple[bytes, bytes | None]] = ()


@attrs.frozen
class Agreement:
    """An accepted offer."""

    window_bits: int = MAX_WINDOW_BITS
    """Of the largest LZ77 window with which the server may compress."""
    names_window: bool = False
    """Whether the answer has to name it, as the client has asked for it."""

    @property
    def header(self) -> bytes:
        """The value of Sec-WebSocket-Extensions in the answer."""
        if self.names_window:
            return b"%b; server_max_window_bits=%d" % (_WITHOUT_TAKEOVER, self.window_bits)
        return _WITHOUT_TAKEOVER


def agree(values: Sequence[bytes]) -> Agreement | None:
    """Return what to agree on, given each Sec-WebSocket-Extensions of a request; None to use no compression.

    The client's order decides: the first offer that can be accepted is.
    """
    for offer in parse_offers(b",".join(values)):
        agreement = _accept(offer)
        if agreement is not None:
            return agreement
    return None


def parse_offers(value: bytes) -> list[Offer]:
    """Return the offers of a list (RFC 6455 section 9.1); none if it is malformed."""
    offers: list[Offer] = []
    parts: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at <= len(value):
        part = _PART.match(value, at)
        if part is None:
            return []
        name, token, quoted, end = part.groups()
        parts.append((name, _ESCAPED.sub(rb"\1", quoted) if token is None and quoted is not None else token))
        at = part.end()
        if end == b";":
            continue
        offers.append(Offer(parts[0][0], parts[1:]))
        parts = []
        if not end:
            break
    return offers


def _accept(offer: Offer) -> Agreement | None:
    """Return the agreement on an offer; None if it has to be declined (section 7.1)."""
    names = [name for name, _ in offer.parameters]
    if offer.name != _NAME or len(set(names)) < len(names) or not all(map(_is_valid, offer.parameters)):
        return None
    wanted = dict(offer.parameters).get(b"server_max_window_bits")
    if wanted is None:
        return Agreement()
    bits = _WINDOW_BITS[wanted]
    return None if bits < MIN_WINDOW_BITS else Agreement(bits, names_window=True)


def _is_valid(parameter: Iterable[bytes | None]) -> bool:
    """Whether a parameter is one of an offer, with a value that it may have there.

    `client_max_window_bits` is a hint (section 7.1.2.2), and no answer to it is needed: to inflate takes the largest
    window always.
    """
    match tuple(parameter):
        case (b"server_no_context_takeover" | b"client_no_context_takeover", value):
            return value is None
        case (b"client_max_window_bits", value):
            return value is None or value in _WINDOW_BITS
        case (b"server_max_window_bits", value):
            return value in _WINDOW_BITS
        case _:
            return False
