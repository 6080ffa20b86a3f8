"""The record of one supervised actor, internal to this package."""

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import attrs
import trio

from actors.actor import Actor
from actors.errors import ActorStoppedError
from actors.mailbox import Mailbox
from actors.ref import Ref, RefOwner
from actors.restarts import RestartCounter

M = TypeVar("M")
Factory: TypeAlias = Callable[[], Actor[M]]


@attrs.define(eq=False)
class Child(Generic[M]):
    """One supervised actor across its incarnations; shared by its supervisor and its registry."""

    owner: RefOwner[M]
    mailbox: Mailbox[M]
    factory: Factory[M]
    restarts: RestartCounter
    on_stopped: Callable[[], None]
    on_escalate: Callable[[Ref[Any], Exception], None]
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    started: trio.Event = attrs.Factory(trio.Event)  # its first start is over, well or not
    start_error: Exception | None = None
    actor: Actor[M] | None = None  # None between incarnations
    is_in_turn: bool = False
    last_turn: float = 0.0  # trio time of its last turn, or of the last time somebody asked for it
    ref: Ref[M] = attrs.field(init=False, default=attrs.Factory(lambda self: self.owner.ref, takes_self=True))

    def is_passive(self) -> bool:
        """Whether it is idle by its own account, between turns, and owes no answer."""
        return (
            self.actor is not None
            and not self.is_in_turn
            and not self.mailbox.waiting
            and not self.ref.has_open_replies
            and self.actor.is_idle()
        )

    def is_done(self) -> bool:
        """Whether its mailbox is closed and empty."""
        return self.mailbox.is_closed and not self.mailbox.waiting

    def borrowed_turn(self) -> Callable[[M], bool] | None:
        """Return the actor's `receive_nowait`, marked as a turn while it runs; None if it lends no turns."""
        assert self.actor is not None, "it is running"
        if type(self.actor).receive_nowait is Actor.receive_nowait:
            return None
        receive_nowait = self.actor.receive_nowait
        # As `trio.current_time`, with two calls less.
        current_time = trio.lowlevel.current_clock().current_time

        def take_turn(message: M) -> bool:
            self.is_in_turn = True
            is_handled = receive_nowait(message)
            self.is_in_turn = False
            self.last_turn = current_time()
            return is_handled

        return take_turn

    def note_started(self) -> None:
        """Mark the first start as over; called again when the task ends, as that may come first."""
        if not self.started.is_set():
            if self.start_error is None and self.ref.is_stopping:
                self.start_error = ActorStoppedError(f"{self.ref.name} was stopped while it started")
            self.started.set()

    async def wait_started(self) -> None:
        """Wait until the first start is over.

        :raises Exception: the error that ended it.
        """
        await self.started.wait()
        if self.start_error is not None:
            # A cancellation that ended the actor may also cancel the starter: then that is the reason.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise self.start_error
