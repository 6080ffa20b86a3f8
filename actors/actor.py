"""What an actor is: state that one task alone touches, and how it answers messages."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from actors.mailbox import Batch
from actors.ref import Ref

M = TypeVar("M")


class Context(Generic[M]):
    """What a running actor may use of the world around it; valid from `on_start` until `on_stop` begins."""

    def __init__(self, ref: Ref[M], nursery: trio.Nursery) -> None:
        self.ref = ref
        self._nursery = nursery

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a task beside the actor; it is cancelled when the actor stops or fails, and gone before `on_stop`.

        What the task raises counts as a failure of the actor, whose `receive` is cancelled.
        """
        self._nursery.start_soon(async_fn, *args)

    def tell_later(self, delay_seconds: float, message: M) -> None:
        """Send the actor itself a message after a delay; forgotten when it stops or fails before."""
        self._nursery.start_soon(self._tell_later, delay_seconds, message)

    async def _tell_later(self, delay_seconds: float, message: M) -> None:
        await trio.sleep(delay_seconds)
        if not self.ref.is_stopping:
            # One message for each timer: bounded by the timers the actor set.
            self.ref.tell_always(message)


class Actor(Generic[M]):
    """Base class of actors. One task runs all its methods, one after the other, so it needs no locks.

    A supervisor makes it by calling a factory, again after each failure. State that must outlive a failure
    belongs to the factory's closure, all other state to the instance.
    """

    async def on_start(self, context: Context[M]) -> None:
        """Prepare; messages are handled only after it returns.

        What it raises on the first start reaches the starter; on a restart it counts as a failure.
        """

    async def receive(self, message: M) -> None:
        """Handle one message. If it raises, the message is dropped and the actor restarted."""

    async def receive_batch(self, batch: Batch[M]) -> None:
        """Handle all that waits. Override it where many messages are cheaper than each alone.

        Messages not taken from the batch stay in the mailbox.
        """
        for message in batch:
            await self.receive(message)

    async def on_stop(self) -> None:
        """Put things away; called once after every successful `on_start`, whatever ended it.

        Runs shielded from cancellation, under the supervisor's `stop_seconds`. What it raises, or that it took
        too long, is only reported. Questions may still be answered here.
        """

    def is_idle(self) -> bool:
        """Whether a registry may passivate the actor when nothing waits for it."""
        return True
