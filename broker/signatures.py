"""Signatures of requests between Greenroom and an application, by the scheme of Standard Webhooks 1.0.

A request carries its id, its time and one or more signatures: HMAC-SHA256 over `id.timestamp.body`. Several keys sign
and verify while one replaces the other. An application imports this through `broker.hooks`, so it needs the standard
library only.
"""

import binascii
import hmac
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from broker.errors import ConfigurationError, GreenroomError

ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300.0
"""The greatest difference between the time of a request and the clock of its receiver, either way."""
SECRET_PREFIX = "whsec_"  # noqa: S105  # of every secret
LEAST_KEY_BYTES, MOST_KEY_BYTES = 24, 64
"""Bounds of a key, as the specification gives them."""

_ID = re.compile(r"[!-\-/-~]{1,256}", re.ASCII)
"""Visible characters but the full stop, which ends the id in the signed text."""
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)


class SignatureError(GreenroomError, ValueError):
    """A request is not signed by a holder of the secret, or not now. The text is for the log and holds no secret."""


class Headers(Protocol):
    """The headers of a request, as any framework has them: names with values."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return the names and values."""
        ...


def read_secret(text: str) -> bytes:
    """Return the key of a secret that is written as `whsec_` and base64.

    :raises ConfigurationError: if it is written in another way, or its key has less than 24 bytes or more than 64.
        The text never holds the secret.
    """
    form = f"must be {SECRET_PREFIX} and the base64 of {LEAST_KEY_BYTES} to {MOST_KEY_BYTES} random bytes"
    if not text.startswith(SECRET_PREFIX):
        raise ConfigurationError(form)
    try:
        key = binascii.a2b_base64(text.removeprefix(SECRET_PREFIX).encode("ascii"), strict_mode=True)
    except ValueError:
        raise ConfigurationError(form) from None
    if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
        raise ConfigurationError(f"{form}; it has {len(key)}")
    return key


def sign(message_id: str, time_seconds: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a request: one signature for each key.

    `message_id` stays the same when the request is repeated; `time_seconds` is the Unix time of the attempt.

    :raises ValueError: if `message_id` is no id: visible ASCII characters but the full stop.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError("the id of a signed request has visible ASCII characters but the full stop")
    timestamp = str(time_seconds)
    return {
        ID_HEADER: message_id,
        TIME_HEADER: timestamp,
        SIGNATURE_HEADER: " ".join(_signature(key, message_id, timestamp, body) for key in keys),
    }


def verify(
    headers: Headers,
    body: bytes,
    secret: str | Iterable[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Any:
    """Return the JSON of a request that is signed with `secret`, or with one of several.

    `headers` are those of the framework: `request.headers` of Django, Flask, FastAPI and Starlette, or a WSGI
    environment. `body` is the body as it came. `now` is the present Unix time, by default the system's. A request that
    is repeated has the id of the first: one that must be executed once only is to be looked up by `webhook-id`.

    :raises SignatureError: if it is not signed so, or more than `tolerance_seconds` ago or ahead; answer 401 or 403.
    :raises ConfigurationError: if `secret` is none: `whsec_` and base64.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError("body: the bytes as they came, not their text or JSON")
    keys = [read_secret(each) for each in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ConfigurationError("no secret to verify with")
    message_id, timestamp, signatures = _read_headers(headers)
    if not _ID.fullmatch(message_id):
        raise SignatureError(f"{ID_HEADER} is no id")
    if not _TIME.fullmatch(timestamp):
        raise SignatureError(f"{TIME_HEADER} is no Unix time in whole seconds")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_seconds:
        raise SignatureError(f"{TIME_HEADER} is more than {tolerance_seconds:g} s from this machine's time")
    data = bytes(body)
    expected = [_signature(key, message_id, timestamp, data).encode() for key in keys]
    given = [each.encode(errors="surrogatepass") for each in signatures.split()]
    # Each is compared with each, so that the time says nothing of which fits.
    fits = [hmac.compare_digest(one, other) for one in expected for other in given]
    if not any(fits):
        raise SignatureError("no signature in webhook-signature is made with this secret over this body")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise SignatureError("the body is signed, but is not JSON") from None


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{binascii.b2a_base64(digest, newline=False).decode()}"


def _read_headers(headers: Headers) -> tuple[str, str, str]:
    """Return the id, the time and the signatures of a request.

    Names are compared as HTTP does, without case; a WSGI environment (`request.META`) has them as HTTP_WEBHOOK_ID.
    """
    found: dict[str, str] = {}
    for key, value in headers.items():
        name = _text(key).lower().replace("_", "-").removeprefix("http-")
        if name in {ID_HEADER, TIME_HEADER, SIGNATURE_HEADER}:
            if name in found:
                raise SignatureError(f"{name} is there twice")
            found[name] = _text(value).strip(" \t")
    for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER):
        if name not in found:
            raise SignatureError(f"{name} is missing")
    return found[ID_HEADER], found[TIME_HEADER], found[SIGNATURE_HEADER]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
