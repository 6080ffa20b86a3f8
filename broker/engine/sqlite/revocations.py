"""Revocations of tokens in the SQLite file."""

from collections.abc import Awaitable, Callable, Sequence

import attrs

from broker.auth.revocations import Revocation
from broker.engine.revocations import OnRevocation, RevocationStore
from broker.engine.sqlite.revocation_rows import Revoke, read_rows
from broker.engine.sqlite.rows import Reader


@attrs.define(eq=False)
class SqliteRevocations(RevocationStore):
    """See RevocationStore; stored in the same commits as the events of rooms."""

    _commit: Callable[[Revoke], Awaitable[object]]
    _read: Callable[[Callable[[Reader], list[Revocation]]], Awaitable[list[Revocation]]]
    _listener: OnRevocation = lambda _revocation: None

    def on_revocation(self, listener: OnRevocation) -> None:
        """See RevocationStore."""
        self._listener = listener

    async def store(self, revocation: Revocation, *, now: float) -> None:
        """See RevocationStore."""
        await self._commit(Revoke(revocation, now))
        self._listener(revocation)

    async def read(self, *, now: float) -> Sequence[Revocation]:
        """See RevocationStore."""
        return await self._read(lambda reader: read_rows(reader.connection, now))
