"""The contract of what keeps revocations of tokens, as durable as the engine's events are.

- When `store` returns, the revocation is stored, merged with that of the same key (see `Revocation.merged`), and survives
  what the engine's events survive. A call that is cancelled or fails may have stored it; it may be repeated.
- `read` returns all stored revocations that hold at `now`. Those that have run out are deleted some time.
- Each revocation that any node stores reaches the listener of every node, also of the one that stored it, or the listener
  is told that it fell behind: then `read`, begun later, returns it. Order is of no matter, and one may come repeatedly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from broker.auth.revocations import Revocation, RevocationTable
from broker.model import WallClock

OnRevocation: TypeAlias = Callable[[Revocation | None], None]
"""Called with a revocation that was stored; with None if some may have been missed. It must not raise."""


class RevocationStore(ABC):
    """Keeps revocations for all nodes that share an engine; the module's docstring is its contract."""

    @abstractmethod
    def on_revocation(self, listener: OnRevocation) -> None:
        """Set the listener."""

    @abstractmethod
    async def store(self, revocation: Revocation, *, now: float) -> None:
        """Store a revocation; `now` is Unix seconds.

        :raises EngineUnavailableError: if it cannot be stored now.
        """

    @abstractmethod
    async def read(self, *, now: float) -> Sequence[Revocation]:
        """Return the revocations that hold at `now`, in Unix seconds.

        :raises EngineUnavailableError: if they cannot be read.
        """


class MemoryRevocations(RevocationStore):
    """Keeps revocations until the process ends."""

    def __init__(self, wall_clock: WallClock) -> None:
        self._table = RevocationTable(wall_clock)
        self._listener: OnRevocation = lambda _revocation: None

    def on_revocation(self, listener: OnRevocation) -> None:
        """See RevocationStore."""
        self._listener = listener

    async def store(self, revocation: Revocation, *, now: float) -> None:  # noqa: ARG002  # the table has a clock
        """See RevocationStore."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._table.add(revocation)
        self._listener(revocation)

    async def read(self, *, now: float) -> Sequence[Revocation]:
        """See RevocationStore."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return [each for each in self._table if each.expires_at > now]
