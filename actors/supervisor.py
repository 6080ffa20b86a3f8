"""Owns the tasks of actors: starts, restarts and stops them, and says when one is past saving.

A restarted actor keeps its mailbox and its Ref. Failures are counted for each actor apart, so that one
bad actor never takes its siblings along unless the supervisor is told to let it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

from actors.actor import Actor, Context
from actors.child import Child, Factory
from actors.errors import ActorStoppedError, EscalatedError
from actors.groups import sole_error
from actors.mailbox import Mailbox
from actors.ref import Ref, RefOwner
from actors.restarts import RestartCounter, RestartPolicy

M = TypeVar("M")


@attrs.frozen
class Failure:
    """One failure of one actor, as told to `on_failure`."""

    name: str
    error: Exception
    restart_delay_seconds: float | None
    """How long until it is tried again; None when it escalates, or failed while it stopped."""


@attrs.frozen
class SupervisorStatistics:
    """A snapshot of a supervisor."""

    actors: int
    """Actors alive, those waiting for their restart included."""
    failures: int
    """Failures since the supervisor was opened."""
    escalations: int
    """Actors given up since the supervisor was opened."""


def _give_up(ref: Ref[Any], error: Exception) -> None:
    raise EscalatedError(f"{ref.name} failed too often") from error


class Supervisor:
    """Runs actors in one nursery; made by `open_supervisor`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        policy: RestartPolicy,
        on_failure: Callable[[Failure], None],
        on_escalate: Callable[[Ref[Any], Exception], None],
        stop_seconds: float,
    ) -> None:
        self._nursery = nursery
        self._policy = policy
        self._on_failure = on_failure
        self._on_escalate = on_escalate
        self._stop_seconds = stop_seconds
        self._children: dict[Child[Any], None] = {}
        self._failures = 0
        self._escalations = 0
        self._is_closing = False

    async def start(self, factory: Factory[M], *, name: str, capacity: int = 1024) -> Ref[M]:
        """Start an actor and return its Ref once its first `on_start` is done.

        If cancelled before, the actor is cancelled too, and given `stop_seconds` to end.

        :raises Exception: what the factory or the first `on_start` raised; there is no restart then.
        :raises ActorStoppedError: if the supervisor is closing, or the actor was stopped while it started.
        """
        child = self.start_soon(factory, name=name, capacity=capacity)
        try:
            await child.wait_started()
        except trio.Cancelled:
            child.scope.cancel()
            with trio.move_on_after(self._stop_seconds, shield=True):
                await child.ref.wait_stopped()
            raise
        return child.ref

    def start_soon(
        self,
        factory: Factory[M],
        *,
        name: str,
        capacity: int,
        on_stopped: Callable[[], None] = lambda: None,
        on_escalate: Callable[[Ref[Any], Exception], None] | None = None,
    ) -> Child[M]:
        """Start an actor without waiting for its `on_start`; for the registry.

        :raises ActorStoppedError: if the supervisor is closing.
        """
        if self._is_closing or self._nursery.cancel_scope.cancel_called:
            raise ActorStoppedError(f"{name} cannot start: its supervisor is closing")
        mailbox: Mailbox[M] = Mailbox(capacity, name=name)
        child = Child(
            RefOwner(name, mailbox),
            mailbox,
            factory,
            RestartCounter(self._policy),
            on_stopped,
            on_escalate or self._on_escalate,
        )
        # Registered before the task's first step, so that a stop in between reaches it.
        self._children[child] = None
        self._nursery.start_soon(self._run_child, child, name=f"actor {name}")
        return child

    async def _run_child(self, child: Child[M]) -> None:
        """Run an actor through all its incarnations; leaves no mailbox, reply or task behind."""
        try:
            with child.scope:
                while await self._live(child):
                    pass
        finally:
            del self._children[child]
            child.owner.record_stop()
            child.on_stopped()
            child.note_started()

    async def _live(self, child: Child[M]) -> bool:
        """Run one incarnation and decide over its end; True when it is to be restarted."""
        try:
            await self._incarnate(child)
        except Exception as error:  # noqa: BLE001  # whatever an actor raises is its supervisor's
            failure = sole_error(error)
        except BaseExceptionGroup as group:
            # It failed while it was being cancelled: the failure stays here, the cancellation goes on.
            errors, others = group.split(Exception)
            if errors is not None:
                self._report(child, sole_error(errors), None)
            assert others is not None
            raise others from None
        else:
            return False
        if not child.started.is_set():
            child.start_error = failure
            return False
        return await self._survive(child, failure)

    async def _incarnate(self, child: Child[M]) -> None:
        """Run one incarnation until its mailbox is closed and empty, or it raises."""
        actor = child.factory()
        try:
            async with trio.open_nursery() as nursery:
                await actor.on_start(Context(child.ref, nursery))
                child.actor = actor
                child.last_turn = trio.current_time()
                child.note_started()
                await self._serve(child, actor)
                nursery.cancel_scope.cancel()
        finally:
            # Outside the nursery, so that the actor's helper tasks are gone before it puts things away.
            has_started = child.actor is not None
            child.actor = None
            child.is_in_turn = False
            if has_started:
                try:
                    with trio.fail_after(self._stop_seconds, shield=True):
                        await actor.on_stop()
                except Exception as error:  # noqa: BLE001  # raised, it would hide why the actor ended
                    self._report(child, error, None)

    async def _serve(self, child: Child[M], actor: Actor[M]) -> None:
        while True:
            try:
                batch = await child.mailbox.wait_batch()
            except trio.EndOfChannel:
                return
            child.is_in_turn = True
            await actor.receive_batch(batch)
            child.is_in_turn = False
            child.last_turn = trio.current_time()

    async def _survive(self, child: Child[M], error: Exception) -> bool:
        """Decide over a failed actor and wait for its restart; False when it will not be restarted."""
        child.owner.record_failure(error)
        if child.is_done():
            self._report(child, error, None)
            return False
        delay = child.restarts.next_delay(trio.current_time())
        self._report(child, error, delay)
        if delay is None:
            self._escalations += 1
            # No more messages: whoever handles the escalation may already look for another actor.
            child.ref.stop_nowait()
            child.on_escalate(child.ref, error)
            return False
        # Also when stopping: a poison message that brought friends must not spin.
        await trio.sleep(delay)
        if child.is_done():
            return False
        child.owner.record_restart()
        return True

    def _report(self, child: Child[M], error: Exception, delay: float | None) -> None:
        self._failures += 1
        self._on_failure(Failure(child.ref.name, error, delay))

    def stop_nowait(self) -> None:
        """Let every actor handle what waits for it and then stop; no new ones are started."""
        self._is_closing = True
        for child in self._children:
            child.ref.stop_nowait()

    def statistics(self) -> SupervisorStatistics:
        """Return a snapshot."""
        return SupervisorStatistics(
            actors=len(self._children), failures=self._failures, escalations=self._escalations
        )


@asynccontextmanager
async def open_supervisor(
    policy: RestartPolicy | None = None,
    *,
    on_failure: Callable[[Failure], None] = lambda _failure: None,
    on_escalate: Callable[[Ref[Any], Exception], None] = _give_up,
    stop_seconds: float = 5.0,
) -> AsyncIterator[Supervisor]:
    """Open a supervisor; leaving the block stops its actors and waits for them.

    Resource handling: at the end of the block each actor handles what waits in its mailbox and stops; those
    that take longer than `stop_seconds` are cancelled. If the block raises or is cancelled, the actors are
    cancelled at once. Either way each has up to `stop_seconds` more for its `on_stop`.

    Error handling: `on_failure` hears of every failure but that of a first start, which the starter gets; also
    of an `on_stop` that raises or takes too long, which costs no restart. An actor past its policy is stopped
    and handed to `on_escalate`; by default that raises EscalatedError out of this block, which cancels all the
    others. Whatever else these two callbacks raise ends the block in the same way.

    :raises EscalatedError: (in an ExceptionGroup, as nurseries do) by the default `on_escalate`.
    """
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery, policy or RestartPolicy(), on_failure, on_escalate, stop_seconds)
        try:
            yield supervisor
        finally:
            supervisor.stop_nowait()
        nursery.cancel_scope.deadline = trio.current_time() + stop_seconds
