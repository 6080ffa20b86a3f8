"""A client token in a cookie, which a browser also sends for pages of strangers. Pure.

So it counts for pages of listed origins alone (RFC 6455 section 10.2), and only where no token was given otherwise.
"""

from collections.abc import Collection, Iterator, Sequence

from broker.config.origins import ANY
from broker.errors import CloseCode, Disconnect, RefusalReason

Headers = Sequence[tuple[bytes, bytes]]


def find_cookie_token(
    headers: Headers, *, name: str, origins: Collection[str], may_lack_origin: bool = False
) -> str | None:
    """Return the token in the cookie of that name; None if there is none.

    Browsers name the origin in every handshake of a WebSocket. They name none in a GET of the page's own server: with
    `may_lack_origin` that is accepted if they state that it is one (`Sec-Fetch-Site`, which no page can set).

    :raises Disconnect: 4003 if the page is not of one of `origins`; 4001 for two different cookies of that name.
    """
    found = {value for value in cookie_values(headers, name) if value}
    if not found:
        return None
    if not _is_listed(headers, origins, may_lack_origin=may_lack_origin):
        raise Disconnect(
            CloseCode.FORBIDDEN, "origin not allowed to use the cookie", why=RefusalReason.ORIGIN
        )
    if len(found) > 1:
        raise Disconnect(CloseCode.UNAUTHORIZED, "more than one token", why=RefusalReason.TOKEN_AMBIGUOUS)
    return found.pop()


def _is_listed(headers: Headers, origins: Collection[str], *, may_lack_origin: bool) -> bool:
    named = _header(headers, b"origin")
    if not named and may_lack_origin:
        return _header(headers, b"sec-fetch-site") == [b"same-origin"]
    return ANY not in origins and len(named) == 1 and named[0].decode("latin-1") in origins


def cookie_values(headers: Headers, name: str) -> Iterator[str]:
    """Yield the values of a cookie, without the quotes that they may have (RFC 6265 section 4.1.1)."""
    for header in _header(headers, b"cookie"):
        for pair in header.decode("latin-1").split(";"):
            found, separator, value = pair.partition("=")
            if separator and found.strip(" \t") == name:
                value = value.strip(" \t")
                is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield value[1:-1] if is_quoted else value


def _header(headers: Headers, name: bytes) -> list[bytes]:
    return [value.strip(b" \t") for key, value in headers if key.lower() == name]
