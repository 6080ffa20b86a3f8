"""A probe: a Ref whose messages a test reads."""

from typing import Generic, TypeVar

import trio
import trio.testing

from actors.mailbox import Mailbox
from actors.ref import Ref, RefOwner

M = TypeVar("M")
T = TypeVar("T")


class Probe(Generic[M]):
    """Takes the place of an actor, and lets a test read its messages one by one.

    It has no task: until its block ends, `await ref.stop()` waits and only the test answers questions.
    """

    def __init__(self, name: str = "probe", *, capacity: int = 1024) -> None:
        self._mailbox: Mailbox[M] = Mailbox(capacity, name=name)
        self._owner = RefOwner(name, self._mailbox)
        self.ref: Ref[M] = self._owner.ref

    async def __aenter__(self) -> "Probe[M]":
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._owner.record_stop()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_message(self, expected: type[T], *, timeout_seconds: float = 5.0) -> T:
        """Wait for the next message, which must be an `expected`.

        :raises AssertionError: if it is of another type.
        :raises trio.TooSlowError: if none comes in time.
        :raises trio.EndOfChannel: if the Ref was stopped and no message waits.
        """
        with trio.fail_after(timeout_seconds):
            batch = await self._mailbox.wait_batch()
        message = next(batch)
        assert isinstance(message, expected), f"expected {expected.__name__}, got {message!r}"
        return message

    async def check_silence(self) -> None:
        """Wait until no task can run any more, and check that no message was sent.

        :raises AssertionError: if one was.
        """
        await trio.testing.wait_all_tasks_blocked()
        assert self._mailbox.waiting == 0, f"{self._mailbox.waiting} unexpected messages"
