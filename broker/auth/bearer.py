"""The credentials of a client: a token in one of three places, or the API key.

Browsers cannot set headers on a WebSocket, so besides `Authorization: Bearer` (RFC 6750 section 2.1) a
token may come as the `token` query parameter, or as a subprotocol `bearer.JWT` beside `greenroom.v1`.
"""

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl

import attrs

from broker.config.named_keys import is_header_word
from broker.errors import CloseCode, ConfigurationError, Disconnect, RefusalReason

_TOKEN_SUBPROTOCOL = "bearer."  # noqa: S105 - a prefix, not a secret


def find_token(
    *, query: str, headers: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str]
) -> str | None:
    """Find the token in the raw query string, the headers or the subprotocols offered.

    Empty ones count as absent; the same token in several places is one token.

    :raises Disconnect: 4001 if they hold different tokens. The
        handshake must still select a subprotocol, or a browser reports 1006.
    """
    found = {
        *(value for name, value in parse_qsl(query) if name == "token"),
        *(
            bearer_credentials(value.decode("latin-1"))
            for name, value in headers
            if name.lower() == b"authorization"
        ),
        *(
            offer.removeprefix(_TOKEN_SUBPROTOCOL)
            for offer in subprotocols
            if offer.startswith(_TOKEN_SUBPROTOCOL)
        ),
    } - {"", None}
    if len(found) > 1:
        raise Disconnect(CloseCode.UNAUTHORIZED, "more than one token", why=RefusalReason.TOKEN_AMBIGUOUS)
    return found.pop() if found else None


def _is_header_word(api_key: "ApiKey", _attribute: object, key: str) -> None:
    if not key or not is_header_word(key):
        raise ConfigurationError(
            f"{api_key.setting}: printable ASCII without spaces, as it travels in a header"
        )


@attrs.define
class ApiKey:
    """A key that callers present, by default the one of HTTP notifiers; it never shows in a repr.

    :raises ConfigurationError: if it is empty or could not be sent in a header; it names the `setting`.
    """

    setting: str = attrs.field(default="http.api_key (GREENROOM_API_KEY)", kw_only=True)
    _key: str = attrs.field(repr=False, validator=_is_header_word)
    _previous: str | None = attrs.field(
        default=None, repr=False, kw_only=True, validator=attrs.validators.optional(_is_header_word)
    )
    """The key that this one replaces, and that is accepted as well until then."""

    def replace(self, key: str, previous: str | None) -> None:
        """Accept these from now on.

        :raises ConfigurationError: if one could not be sent in a header.
        """
        changed = ApiKey(key, previous=previous, setting=self.setting)
        self._key, self._previous = changed._key, changed._previous

    def matches(self, authorization_header: str | None) -> bool:
        """Whether the header presents this key, compared in constant time."""
        presented = None if authorization_header is None else bearer_credentials(authorization_header)
        if presented is None:
            return False
        # As bytes: compare_digest takes no text beyond ASCII. Surrogates must not raise either.
        word = presented.encode(errors="surrogatepass")
        is_key = hmac.compare_digest(word, self._key.encode())
        return is_key or (self._previous is not None and hmac.compare_digest(word, self._previous.encode()))


def bearer_credentials(authorization: str) -> str | None:
    """Return the credentials of a `Bearer` header, None for another scheme (RFC 9110 section 11.4)."""
    scheme, _, credentials = authorization.strip().partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None
