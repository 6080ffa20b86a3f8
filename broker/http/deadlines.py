"""A time limit for what the rooms and the engine do for a request."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from broker.errors import EngineTrouble, EngineUnavailableError


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Cancel the block after `seconds`.

    :raises EngineUnavailableError: if that happened.
    """
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise EngineUnavailableError(
            f"no answer within {seconds:g} seconds", trouble=EngineTrouble.NO_ANSWER
        ) from None
