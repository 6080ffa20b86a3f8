"""A key set that is fetched from an issuer, kept, and fetched again before its age and for an unknown `kid`.

An issuer that cannot be reached costs nobody a connection: the last known keys stay, whatever their age.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import attrs
import trio

from broker.auth.binding import VerificationKey
from broker.auth.keys import KeyRing, KeySource
from broker.auth.pending import KeysPending
from broker.errors import Disconnect, GreenroomError

LEAST_AGE_SECONDS, DEFAULT_AGE_SECONDS, MOST_AGE_SECONDS = 60.0, 900.0, 3600.0
"""Bounds of the time for which a key set holds, and the time where its answer states none."""
REFRESH_AT = 0.75
"""The part of its age at which a set is fetched again, so that one failure or two leave it fresh."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0
"""Bounds of the pause after a failure; it doubles."""
UNKNOWN_KID_SECONDS = 10.0
"""The least time between two fetches that unknown key ids cause."""


class KeyLog(Protocol):
    """Where fetches are told of."""

    def info(self, event: str, **fields: object) -> None:
        """Log that keys have come."""

    def warning(self, event: str, **fields: object) -> None:
        """Log that they could not be fetched."""


class KeyFetchError(GreenroomError):
    """The keys could not be fetched, or are none that can be used; the text is one line for the log."""


@attrs.frozen
class FetchedKeys:
    """A key set and the time it holds, as its answer states it."""

    ring: KeyRing
    age_seconds: float | None


Fetch = Callable[[KeySource], Awaitable[FetchedKeys]]
"""Fetches a key set within a time limit of its own.

:raises KeyFetchError: if it cannot be had.
"""


def refresh_delay(age_seconds: float | None) -> float:
    """Return the seconds after which a set that holds for `age_seconds` is fetched again."""
    age = DEFAULT_AGE_SECONDS if age_seconds is None else age_seconds
    return REFRESH_AT * min(max(age, LEAST_AGE_SECONDS), MOST_AGE_SECONDS)


def retry_delay(failures: int) -> float:
    """Return the seconds until the next attempt after so many failures in a row."""
    # The exponent is bounded, as a provider may be away for weeks.
    return min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16))


@attrs.define(eq=False)
class RemoteKeys:
    """The keys of one source. `run` fetches them."""

    source: KeySource
    _fetch: Fetch
    _ring: KeyRing | None = None
    _attempt: trio.Event = attrs.Factory(trio.Event)
    """Set at the end of the attempt that is under way, or of the next one."""
    _asked: trio.Event = attrs.Factory(trio.Event)
    """Set when an unknown `kid` has the set fetched before its time."""
    _is_fetching: bool = False
    _attempted_at: float = float("-inf")
    """The trio time at which the last attempt ended."""
    _failures: int = 0
    """Attempts that failed since the last one that did not."""

    @property
    def is_known(self) -> bool:
        """Whether there are keys."""
        return self._ring is not None

    def choose(self, *, algorithm: object, kid: object) -> VerificationKey:
        """Return the key of a token, see `KeyRing.choose`; an unknown `kid` has the set fetched again.

        At most one fetch begins within UNKNOWN_KID_SECONDS for that. Keys that are no older decide; so do those of a
        source that answers, once they are fetched.

        :raises KeysPending: if the key may come with the fetch that is under way, begins now, or fails at present.
        :raises Disconnect: 4001 if there is no such key.
        """
        if self._ring is None:
            raise KeysPending.of(self._attempt)
        try:
            return self._ring.choose(algorithm=algorithm, kid=kid)
        except Disconnect:
            if not isinstance(kid, str) or algorithm not in self.source.algorithms or not self._may_come():
                raise
        raise KeysPending.of(self._attempt)

    def _may_come(self) -> bool:
        """Whether an unknown key may be in the next set; has it fetched if none was a moment ago."""
        is_recent = trio.current_time() < self._attempted_at + UNKNOWN_KID_SECONDS
        if not is_recent and not self._is_fetching:
            self._asked.set()
        return not is_recent or self._is_fetching or self._failures > 0

    async def run(self, log: KeyLog) -> None:
        """Fetch the set again and again, until cancelled."""
        while True:
            delay = await self._fetch_once(log)
            with trio.move_on_after(delay):
                await self._asked.wait()

    async def _fetch_once(self, log: KeyLog) -> float:
        """Fetch the set; returns the seconds until the next attempt."""
        self._asked, self._is_fetching = trio.Event(), True
        try:
            fetched = await self._fetch(self.source)
        except KeyFetchError as error:
            self._failures += 1
            log.warning(
                "token keys not fetched", url=self.source.shown_url, reason=str(error), has_keys=self.is_known
            )
            return retry_delay(self._failures)
        else:
            if self._ring is None or self._failures:
                log.info("token keys fetched", url=self.source.shown_url, count=len(fetched.ring.keys))
            self._failures, self._ring = 0, fetched.ring
            return refresh_delay(fetched.age_seconds)
        finally:
            self._is_fetching, self._attempted_at = False, trio.current_time()
            self._attempt.set()
            self._attempt = trio.Event()


@attrs.define(eq=False)
class RemoteKeySets:
    """All sources of keys. `run` fetches each in a task of its own."""

    _fetch: Fetch = attrs.field(factory=lambda: _fetch_by_http)
    _open: dict[KeySource, tuple[RemoteKeys, trio.CancelScope]] = attrs.field(factory=dict)
    _start: Callable[[RemoteKeys, trio.CancelScope], None] | None = None
    """Starts a task; None until `run`."""

    def open(self, source: KeySource) -> RemoteKeys:
        """Return the keys of a source: those that are there already, or new ones that are fetched from now on."""
        if source not in self._open:
            opened = RemoteKeys(source, self._fetch), trio.CancelScope()
            self._open[source] = opened
            if self._start is not None:
                self._start(*opened)
        return self._open[source][0]

    def keep(self, sources: Collection[KeySource]) -> None:
        """Stop to fetch from all other sources."""
        for source in set(self._open) - set(sources):
            _, scope = self._open.pop(source)
            scope.cancel()

    async def run(self, log: KeyLog) -> None:
        """Fetch from all sources, until cancelled."""

        async def run_one(keys: RemoteKeys, scope: trio.CancelScope) -> None:
            with scope:
                await keys.run(log)

        async with trio.open_nursery() as nursery:
            self._start = lambda *opened: nursery.start_soon(run_one, *opened)
            for opened in self._open.values():
                self._start(*opened)
            await trio.sleep_forever()


async def _fetch_by_http(source: KeySource) -> FetchedKeys:
    # Takes a tenth of a second to import, and most servers fetch no keys.
    from broker.auth.key_fetch import fetch_keys  # noqa: PLC0415

    return await fetch_keys(source)
