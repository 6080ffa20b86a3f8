"""Actors by key: started when first needed, one for each key, put away when idle, no message lost.

An idle actor is passivated in one synchronous step: nothing waits in its mailbox, it is not in a turn, so
closing the mailbox loses nothing. A message that comes later finds the mailbox closed and starts the next
actor, after the old one has finished its `on_stop`.
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

LOOKED_AT_PER_TURN = 1000
"""After so many actors the other tasks get their turn: a millisecond, more or less."""

PASSIVATED_PER_TURN = 50
"""Likewise; all that are put away in one turn also end in one turn, each with its `on_stop`."""

K = TypeVar("K")
M = TypeVar("M")
R = TypeVar("R")

LOOKS_FOR_ONE = 64
"""How many actors `passivate_one` looks at."""


@attrs.frozen
class RegistryStatistics:
    """A snapshot of a registry."""

    actors: int
    """Actors alive or starting."""
    started: int
    """Starts since the registry was made, failed ones included."""
    passivated: int
    """Idle actors put away since the registry was made."""


class Registry(Generic[K, M]):
    """Gives the actor for a key.

    `make_factory(key)` is called when an actor is first needed; the factory it returns is called for each
    incarnation, so what the closure holds outlives failures but not passivation. An actor past its restart
    policy is handed to `on_escalate` with its last failure, instead of to the supervisor's own. `on_stopped` hears of
    the end of each actor, however it came about, before the next one for the key is made.
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
        # A dict's first item is not found in constant time once others before it were taken out.
        self._children: OrderedDict[K, Child[M]] = OrderedDict()
        self._started = 0
        self._passivated = 0

    def __len__(self) -> int:
        """How many actors are alive or starting."""
        return len(self._children)

    def __contains__(self, key: K) -> bool:
        """Whether the actor for `key` is alive or starting, and not about to stop."""
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
        """Return the running actor for `key`, starting it if need be; one start serves all who wait.

        A checkpoint only if it has to wait. If cancelled, the start goes on. The actor may be passivated after
        this returns: `tell` and `ask` below start it again, a Ref does not.

        :raises Exception: what the actor's first `on_start` raised, to all who waited for it.
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
                continue  # not accepted: it was passivated, or given up, in between
            return ref

    async def ask(self, key: K, make_message: Callable[[Reply[R]], M]) -> R:
        """Ask the actor for `key`, starting it if need be.

        :raises Exception: as `get`, and as `Ref.ask`.
        """
        reply: Reply[R] = Reply()
        ref = await self.tell(key, make_message(reply))
        return await ref.wait_reply(reply)

    def passivate_idle(self) -> int:
        """Put away the actors that have been idle long enough, all in one turn; returns how many."""
        return sum(self._passivate_in_pieces())

    def passivate_one(self) -> bool:
        """Put away an idle actor now, however short a time it has been idle; returns whether one was found.

        Looks at a few only, and at others the next time: an actor with something to do goes behind all others.
        """
        for key in list(islice(self._children, LOOKS_FOR_ONE)):
            child = self._children[key]
            if not child.ref.is_stopping and child.is_passive():
                child.ref.stop_nowait()
                self._passivated += 1
                return True
            self._children.move_to_end(key)
        return False

    async def run_passivation(self) -> None:
        """Put away idle actors for ever, some at a turn; run it in a nursery that ends before the supervisor does."""
        while True:
            await trio.sleep(self._idle_seconds / 4)
            for _ in self._passivate_in_pieces():
                await trio.lowlevel.checkpoint()

    def _passivate_in_pieces(self) -> Iterator[int]:
        """Put away the actors that have been idle long enough; gives how many, after each piece of the work."""
        horizon = trio.current_time() - self._idle_seconds
        stopped = 0
        for looked_at, child in enumerate(list(self._children.values()), 1):
            if child.last_turn <= horizon and not child.ref.is_stopping and child.is_passive():
                child.ref.stop_nowait()
                self._passivated += 1
                stopped += 1
            if stopped == PASSIVATED_PER_TURN or looked_at % LOOKED_AT_PER_TURN == 0:
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
