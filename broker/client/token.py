"""The form of a client's token."""

import re

# RFC 7515 section 7.1: parts of base64url with dots between them.
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def clean_token(text: str) -> str | None:
    """Return `text` without white space around it; None if it has characters that no token has.

    Those could not be sent: the token travels as a subprotocol, which is one word (RFC 6455 section 4.1).
    """
    token = text.strip()
    return token if _TOKEN.fullmatch(token) else None
