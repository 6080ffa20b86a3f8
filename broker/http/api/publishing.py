"""Common parts of the routes that publish one message, to many rooms, or many lines."""

from actors import ActorError
from broker.errors import EngineUnavailableError, ErrorCode, Refused
from broker.http.api.models import ErrorInfo
from broker.http.problems import refusal_of
from broker.model import IdempotencyKey

MAX_KEY_CHARACTERS = 128

FAILURES = (Refused, EngineUnavailableError, ActorError)
"""Errors of a publish that are answered to the client."""


def make_key(key: str | None, name: str = "Idempotency-Key") -> IdempotencyKey | None:
    """Return the key of a notifier's publish; `name` is its header or field.

    :raises Refused: `invalid_message` if it is too long or empty.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise Refused(ErrorCode.INVALID_MESSAGE, f"{name}: 1 to {MAX_KEY_CHARACTERS} characters")
    return IdempotencyKey("http", key)


def error_info(error: Exception) -> ErrorInfo:
    """Return the error of one message among many."""
    refused = refusal_of(error)
    return ErrorInfo(refused.code.value, refused.message, refused.retry_after_ms)
