"""Owns the tasks of actors: starts, restarts and stops them, and escalates an actor that fails too often.

A restarted actor keeps its mailbox and its Ref. Failures are counted for each actor apart, so one failing actor
stops its siblings only if `on_escalate` raises.
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
    """One failure of one actor, as reported to `on_failure`."""

    name: str
    error: Exception
    restart_delay_seconds: float | None
    """Delay before the restart; None if the failure escalates, or the actor was stopping."""


@attrs.frozen
class SupervisorStatistics:
    """A snapshot of a supervisor."""

    actors: int
    """Running actors, those waiting for their restart included."""
    failures: int
    """Failures since the supervisor was opened."""
    escalations: int
    """Actors that failed too often since the supervisor was opened."""


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

        If cancelled before, the actor is cancelled too, and has `stop_seconds` to end.

        :raises Exception: the error of the factory or of the first `on_start`; there is no restart then.
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
        """Run an actor through all its incarnations; its mailbox, replies and tasks end with it."""
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
        """Run one incarnation; returns whether to restart."""
        try:
            await self._incarnate(child)
        except Exception as error:  # noqa: BLE001  # any exception of an actor is its supervisor's
            failure = sole_error(error)
        except BaseExceptionGroup as group:
            # It failed while it was being cancelled: the failure is reported, the cancellation propagates.
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
            # Outside the nursery, so that the actor's own tasks have ended before `on_stop`.
            has_started = child.actor is not None
            child.actor = None
            child.is_in_turn = False
            if has_started:
                try:
                    with trio.fail_after(self._stop_seconds, shield=True):
                        await actor.on_stop()
                except Exception as error:  # noqa: BLE001  # raised, it would replace the error that ended the actor
                    self._report(child, error, None)

    async def _serve(self, child: Child[M], actor: Actor[M]) -> None:
        borrowed_turn = child.borrowed_turn()
        while True:
            try:
                batch = await child.mailbox.wait_batch(borrowed_turn)
            except trio.EndOfChannel:
                return
            child.is_in_turn = True
            await actor.receive_batch(batch)
            child.is_in_turn = False
            child.last_turn = trio.current_time()

    async def _survive(self, child: Child[M], error: Exception) -> bool:
        """Wait for the restart of a failed actor; returns False if there is none."""
        child.owner.record_failure(error)
        if child.is_done():
            self._report(child, error, None)
            return False
        delay = child.restarts.next_delay(trio.current_time())
        self._report(child, error, delay)
        if delay is None:
            self._escalations += 1
            # Refuse messages: the handler of the escalation may already start another actor for the key.
            child.ref.stop_nowait()
            child.on_escalate(child.ref, error)
            return False
        # Also when stopping: several poison messages must not restart it in a busy loop.
        await trio.sleep(delay)
        if child.is_done():
            return False
        child.owner.record_restart()
        return True

    def _report(self, child: Child[M], error: Exception, delay: float | None) -> None:
        self._failures += 1
        self._on_failure(Failure(child.ref.name, error, delay))

    def stop_nowait(self) -> None:
        """Let every actor handle its waiting messages and then stop; no new actors are started."""
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

    Resource handling: at the end of the block each actor handles its waiting messages and stops; those that take
    longer than `stop_seconds` are cancelled. If the block raises or is cancelled, the actors are cancelled at once.
    Either way each has up to `stop_seconds` more for its `on_stop`.

    Error handling: `on_failure` is called for every failure but that of a first start, which the starter gets; also
    for an `on_stop` that raises or takes too long, which costs no restart. An actor past its policy is stopped
    and passed to `on_escalate`; by default that raises EscalatedError out of this block, which cancels all other
    actors. Any other exception of these two callbacks ends the block in the same way.

    :raises EscalatedError: (in an ExceptionGroup, as nurseries do) by the default `on_escalate`.
    """
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery, policy or RestartPolicy(), on_failure, on_escalate, stop_seconds)
        try:
            yield supervisor
        finally:
            supervisor.stop_nowait()
        nursery.cancel_scope.deadline = trio.current_time() + stop_seconds
