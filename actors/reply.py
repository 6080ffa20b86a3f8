"""The reply to a question: a promise, settled once by the actor that handles the message."""

from typing import Generic, TypeVar

import trio

R = TypeVar("R")


class Reply(Generic[R]):
    """Part of a message; the actor that handles the message settles it.

    The first settlement counts and later ones are ignored, so an actor need not know whether its
    supervisor has already failed the question.
    """

    __slots__ = ("_error", "_settled", "_values")

    def __init__(self) -> None:
        self._values: list[R] = []
        self._error: Exception | None = None
        self._settled = trio.Event()

    @property
    def is_settled(self) -> bool:
        """Whether an answer or an error was given."""
        return self._settled.is_set()

    def set(self, value: R) -> bool:
        """Answer; returns False if it was settled before."""
        if self.is_settled:
            return False
        self._values.append(value)
        self._settled.set()
        return True

    def fail(self, error: Exception) -> bool:
        """Make `wait` raise `error`; returns False if it was settled before."""
        if self.is_settled:
            return False
        self._error = error
        self._settled.set()
        return True

    async def wait(self) -> R:
        """Wait for the answer; if cancelled, a later settlement has no effect.

        :raises Exception: the error that the reply was failed with.
        """
        await self._settled.wait()
        return self.get_nowait()

    def get_nowait(self) -> R:
        """Return the answer.

        :raises trio.WouldBlock: if there is none yet.
        :raises Exception: the error that the reply was failed with.
        """
        if self._error is not None:
            raise self._error
        if not self._values:
            raise trio.WouldBlock
        return self._values[0]
