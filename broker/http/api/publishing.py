"""Publishes for HTTP notifiers: what the routes for one message, many rooms and many lines have in common."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from actors import ActorError
from broker.errors import EngineTrouble, EngineUnavailableError, ErrorCode, Refused
from broker.http.api.models import ErrorInfo
from broker.http.problems import refusal_of
from broker.model import IdempotencyKey

MAX_KEY_CHARACTERS = 128

FAILURES = (Refused, EngineUnavailableError, ActorError)
"""What a publish may end with and a client is told."""


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Give up on rooms and engine after a while.

    :raises EngineUnavailableError: if the block takes longer.
    """
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise EngineUnavailableError(
            f"no answer within {seconds:g} seconds", trouble=EngineTrouble.NO_ANSWER
        ) from None


def make_key(key: str | None, name: str = "Idempotency-Key") -> IdempotencyKey | None:
    """Return the key of a notifier's publish; `name` is where it stood.

    :raises Refused: `invalid_message` if it is too long or empty.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise Refused(ErrorCode.INVALID_MESSAGE, f"{name}: 1 to {MAX_KEY_CHARACTERS} characters")
    return IdempotencyKey("http", key)


def error_info(error: Exception) -> ErrorInfo:
    """Return what is told of one that failed among many."""
    refused = refusal_of(error)
    return ErrorInfo(refused.code.value, refused.message, refused.retry_after_ms)
