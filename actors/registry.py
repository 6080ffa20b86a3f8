"""Actors by key: one for each, started when first needed and passivated when idle, without losing a message.

An idle actor is passivated in one synchronous step: its mailbox is empty and it is between turns, so closing the
mailbox loses nothing. A later message finds the mailbox closed and starts the next actor, after the old one has
finished its `on_stop`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

import attrs
import trio

from actors.child import Child, Factory
from actors.errors import ActorStoppedError
from actors.ref import Ref
from actors.reply import Reply
from actors.supervisor import Supervisor

EXAMINED_PER_SLICE = 1000
"""Actors examined before other tasks run: about a millisecond."""

PASSIVATED_PER_SLICE = 50
"""Actors passivated before other tasks run, as all of them run their `on_stop` in one scheduler turn."""

K = TypeVar("K")
M = TypeVar("M")
R = TypeVar("R")

EXAMINED_FOR_ONE = 64
"""Actors that `passivate_one` examines at most."""


@attrs.frozen
class RegistryStatistics:
    """A snapshot of a registry."""

    actors: int
    """Running and starting actors."""
    started: int
    """Starts since the registry was made, failed ones included."""
    passivated: int
    """Idle actors passivated since the registry was made."""


class Registry(Generic[K, M]):
    """Finds or starts the actor for a key.

    `make_factory(key)` is called when an actor is first needed; the factory it returns is called for each
    incarnation, so the state in its closure outlives failures but not passivation. An actor past its restart
    policy is passed to `on_escalate` with its last failure, instead of to the supervisor's own. `on_stopped` is called
    at the end of each actor, whatever the cause, before the next one for the key is made.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        make_factory: Callable[[K], Factory[M]],
        *,
        name: str,
        idle_seconds: float,
        capacity: int = 1024,
        on_escalate: Callable[[K, Exception], None] | None = None,
        on_stopped: Callable[[K], None] = lambda _key: None,
    ) -> None:
        if idle_seconds <= 0:
            raise ValueError("idle_seconds must be above 0")
        self._supervisor = supervisor
        self._make_factory = make_factory
        self._name = name
        self._idle_seconds = idle_seconds
        self._capacity = capacity
        self._on_escalate = on_escalate
        self._on_stopped = on_stopped
        # A plain dict does not find its first item in constant time after earlier ones were removed.
        self._children: OrderedDict[K, Child[M]] = OrderedDict()
        self._started = 0
        self._passivated = 0

    def __len__(self) -> int:
        """Return the number of running and starting actors."""
        return len(self._children)

    def __contains__(self, key: K) -> bool:
        """Whether the actor for `key` is running or starting, and not stopping."""
        child = self._children.get(key)
        return child is not None and not child.ref.is_stopping

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys of a snapshot."""
        return iter(list(self._children))

    def peek(self, key: K) -> Ref[M] | None:
        """Return the actor for `key` if it is running, without starting it."""
        child = self._children.get(key)
        if child is None or not child.started.is_set() or child.ref.is_stopping:
            return None
        return child.ref

    async def get(self, key: K) -> Ref[M]:
        """Return the running actor for `key`, starting it if need be; concurrent callers share one start.

        A checkpoint only if it has to wait. If cancelled, the start goes on. The actor may be passivated after
        this returns: `tell` and `ask` below start it again, a Ref does not.

        :raises Exception: the error of the actor's first `on_start`, to all waiting callers.
        :raises ActorStoppedError: if the supervisor is closing, or the actor was stopped while it started.
        """
        while True:
            child = self._children.get(key) or self._start(key)
            if not child.started.is_set():
                await child.wait_started()
            if child.ref.is_stopping:
                await child.ref.wait_stopped()
                continue
            child.last_turn = trio.current_time()
            return child.ref

    async def tell(self, key: K, message: M) -> Ref[M]:
        """Send to the actor for `key`, starting it if need be; returns the Ref that accepted the message.

        :raises Exception: as `get`.
        """
        while True:
            ref = await self.get(key)
            try:
                await ref.tell(message)
            except ActorStoppedError:
                continue  # not accepted: it was passivated or has escalated in between
            return ref

    async def ask(self, key: K, make_message: Callable[[Reply[R]], M]) -> R:
        """Ask the actor for `key`, starting it if need be.

        :raises Exception: as `get`, and as `Ref.ask`.
        """
        reply: Reply[R] = Reply()
        ref = await self.tell(key, make_message(reply))
        return await ref.wait_reply(reply)

    def passivate_idle(self) -> int:
        """Passivate the actors that have been idle for `idle_seconds`, in one turn; returns their number."""
        return sum(self._passivate_in_slices())

    def passivate_one(self) -> bool:
        """Passivate one idle actor, regardless of `idle_seconds`; returns whether one was found.

        Examines a few actors only, and others in the next call: a busy actor moves to the end of the order.
        """
        for key in list(islice(self._children, EXAMINED_FOR_ONE)):
            child = self._children[key]
            if not child.ref.is_stopping and child.is_passive():
                child.ref.stop_nowait()
                self._passivated += 1
                return True
            self._children.move_to_end(key)
        return False

    async def run_passivation(self) -> None:
        """Passivate idle actors for ever, some at a time; run it in a nursery that ends before the supervisor does."""
        while True:
            await trio.sleep(self._idle_seconds / 4)
            for _ in self._passivate_in_slices():
                await trio.lowlevel.checkpoint()

    def _passivate_in_slices(self) -> Iterator[int]:
        """Passivate the actors that have been idle for `idle_seconds`; yields their number after each slice."""
        horizon = trio.current_time() - self._idle_seconds
        stopped = 0
        for examined, child in enumerate(list(self._children.values()), 1):
            if child.last_turn <= horizon and not child.ref.is_stopping and child.is_passive():
                child.ref.stop_nowait()
                self._passivated += 1
                stopped += 1
            if stopped == PASSIVATED_PER_SLICE or examined % EXAMINED_PER_SLICE == 0:
                yield stopped
                stopped = 0
        yield stopped

    def statistics(self) -> RegistryStatistics:
        """Return a snapshot."""
        return RegistryStatistics(len(self._children), self._started, self._passivated)

    def _start(self, key: K) -> Child[M]:
        def forget() -> None:
            del self._children[key]
            self._on_stopped(key)

        on_escalate = self._on_escalate
        child = self._supervisor.start_soon(
            self._make_factory(key),
            name=f"{self._name} {key}",
            capacity=self._capacity,
            on_stopped=forget,
            on_escalate=None if on_escalate is None else lambda _ref, error: on_escalate(key, error),
        )
        self._children[key] = child
        self._started += 1
        return child
