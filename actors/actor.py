"""The base class of actors, and the context that an actor gets while it runs."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from actors.mailbox import Batch
from actors.ref import Ref

M = TypeVar("M")


class Context(Generic[M]):
    """A running actor's own Ref, tasks and timers; valid from `on_start` until `on_stop` is called."""

    def __init__(self, ref: Ref[M], nursery: trio.Nursery) -> None:
        self.ref = ref
        self._nursery = nursery

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a task beside the actor; it is cancelled when the actor stops or fails, and has ended before `on_stop`.

        An exception of the task counts as a failure of the actor, whose `receive` is cancelled.
        """
        self._nursery.start_soon(async_fn, *args)

    def tell_later(self, delay_seconds: float, message: M) -> None:
        """Send the actor itself a message after a delay; dropped if it stops or fails before."""
        self._nursery.start_soon(self._tell_later, delay_seconds, message)

    async def _tell_later(self, delay_seconds: float, message: M) -> None:
        await trio.sleep(delay_seconds)
        if not self.ref.is_stopping:
            # One message for each timer: bounded by the number of timers.
            self.ref.tell_always(message)


class Actor(Generic[M]):
    """Base class of actors. One task runs all its methods, one after the other, so it needs no locks.

    A supervisor makes it by calling a factory, again after each failure. State that must outlive a failure
    belongs in the factory's closure, all other state in the instance.
    """

    async def on_start(self, context: Context[M]) -> None:
        """Prepare; messages are handled only after it returns.

        An exception on the first start is raised to the starter; on a restart it counts as a failure.
        """

    async def receive(self, message: M) -> None:
        """Handle one message. If it raises, the message is dropped and the actor restarted."""

    async def receive_batch(self, batch: Batch[M]) -> None:
        """Handle all waiting messages. Override it where many together are cheaper than each alone.

        Messages not taken from the batch stay in the mailbox.
        """
        for message in batch:
            await self.receive(message)

    def receive_nowait(self, message: M) -> bool:  # noqa: ARG002  # see Actor
        """Handle one message in a borrowed turn, if that needs no wait; else do nothing and return False.

        Override it for messages that are handled at once. While the actor's task sleeps and its mailbox is empty, a
        sender that tells it something runs this method on its own stack, which spares two switches of tasks. The
        turn is the actor's own in all else: no other message is handled meanwhile, one that this turn sends to the
        actor itself waits in the mailbox, and if this raises, the message is dropped, the sender notices nothing,
        and the actor is restarted as if its task had raised. A message that is not handled here goes the usual way.
        """
        return False

    async def on_stop(self) -> None:
        """Release resources; called once after every successful `on_start`, whatever ended the incarnation.

        Runs shielded from cancellation, for at most the supervisor's `stop_seconds`. An exception, or the end of that
        time, is only reported. Questions may still be answered here.
        """

    def is_idle(self) -> bool:
        """Whether a registry may passivate the actor once its mailbox is empty."""
        return True
