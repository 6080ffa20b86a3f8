"""Addresses of other HTTP servers that the configuration names. Pure."""

from urllib.parse import SplitResult, urlsplit


def check_url(text: str, *, example: str) -> SplitResult:
    """Return the parts of an address that requests can be sent to, by http or https.

    :raises ValueError: with the reason, which does not hold the address.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no address") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or not text.isascii() or port == 0:
        raise ValueError(f"must be an address such as {example}")
    if any(not "!" <= character <= "~" for character in text):
        raise ValueError("must be printable ASCII without blanks")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or a password, which would be shown with it")
    if "#" in text:
        raise ValueError("has a fragment, which is sent to no server")
    return parts
