"""A probe: something with a Ref that only remembers what it was told."""

from typing import Generic, TypeVar

import trio
import trio.testing

from actors.mailbox import Mailbox
from actors.ref import Ref, RefOwner

M = TypeVar("M")
T = TypeVar("T")


class Probe(Generic[M]):
    """Stands where an actor would, and lets a test look at the messages one by one.

    It has no task: until its block ends, `await ref.stop()` waits and a question is answered by the test alone.
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

        :raises AssertionError: if it is something else.
        :raises trio.TooSlowError: if none comes in time.
        :raises trio.EndOfChannel: if the Ref was stopped and nothing waits.
        """
        with trio.fail_after(timeout_seconds):
            batch = await self._mailbox.wait_batch()
        message = next(batch)
        assert isinstance(message, expected), f"expected {expected.__name__}, got {message!r}"
        return message

    async def check_silence(self) -> None:
        """Wait until no task can run any more, and check that nothing was sent.

        :raises AssertionError: if something was.
        """
        await trio.testing.wait_all_tasks_blocked()
        assert self._mailbox.waiting == 0, f"{self._mailbox.waiting} unexpected messages"
