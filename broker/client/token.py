"""The form of a client's token."""

import math
import re
from base64 import urlsafe_b64decode

import msgspec

# RFC 7515 section 7.1: parts of base64url with dots between them.
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


class _Payload(msgspec.Struct):
    exp: float | None = None


def clean_token(text: str) -> str | None:
    """Return `text` without white space around it; None if it has characters that no token has.

    Those could not be sent: the token travels as a subprotocol, which is one word (RFC 6455 section 4.1).
    """
    token = text.strip()
    return token if _TOKEN.fullmatch(token) else None


def expiry_of(token: str) -> float:
    """Return the Unix seconds at which a token expires (RFC 7519 section 4.1.4); infinite without `exp`.

    :raises ValueError: if it cannot be read.
    """
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    try:
        content = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        expires_at = msgspec.json.decode(content, type=_Payload).exp
    except msgspec.DecodeError as error:
        raise ValueError("the token is malformed") from error
    return math.inf if expires_at is None else expires_at
