"""Tokens that were taken back: the decision about a token's claims, and the revocations that a node knows.

A revocation holds until its `expires_at`, by which all tokens that it means should have run out. Revocations of one key are
merged: the later `expires_at` and the later `issued_before` hold. So their order is of no matter, and a repetition changes
nothing; none is ever taken back or shortened.
"""

from collections.abc import Iterator
from enum import StrEnum
from heapq import heappop, heappush, heapreplace

import attrs

from broker.model import Claims, WallClock

MOST_REVOCATIONS = 100_000
"""Revocations that hold at the same time; a further one is refused, as none may be forgotten early."""


class RevocationKind(StrEnum):
    """The tokens that a revocation means."""

    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    """The one token with this `jti`."""
    USER = "user"
    """All tokens of a user, those issued later too."""
    ISSUED = "issued"
    """All tokens of a user that were issued before a time; those without `iat` too, as they may have been."""


@attrs.frozen
class Revocation:
    """Takes tokens back until `expires_at`; times are Unix seconds."""

    kind: RevocationKind
    name: str
    """The `jti`, or the user's id."""
    expires_at: float
    issued_before: float | None = None
    """For `ISSUED`, and for no other."""

    @property
    def key(self) -> str:
        """Revocations with the same key are one."""
        return f"{self.kind.value}:{self.name}"

    @classmethod
    def of_key(cls, key: str, expires_at: float, issued_before: float | None) -> "Revocation":
        """Return the revocation that has this key.

        :raises ValueError: if none can have it.
        """
        kind, _, name = key.partition(":")
        if not name:
            raise ValueError("a revocation without a name")
        revocation = cls(RevocationKind(kind), name, expires_at, issued_before)
        if (revocation.kind is RevocationKind.ISSUED) != (issued_before is not None):
            raise ValueError("a time of issue belongs to one kind of revocation only")
        return revocation

    def means(self, claims: Claims) -> bool:
        """Whether it takes back the token with these claims."""
        match self.kind:
            case RevocationKind.TOKEN:
                return claims.token_id == self.name
            case RevocationKind.USER:
                return claims.user_id == self.name
            case RevocationKind.ISSUED:
                assert self.issued_before is not None
                is_older = claims.issued_at is None or claims.issued_at < self.issued_before
                return claims.user_id == self.name and is_older

    def merged(self, other: "Revocation") -> "Revocation":
        """Return what holds if both do; they have the same key."""
        times = [time for time in (self.issued_before, other.issued_before) if time is not None]
        return attrs.evolve(
            self, expires_at=max(self.expires_at, other.expires_at), issued_before=max(times, default=None)
        )


class RevocationTable:
    """The revocations that hold, as this node knows them; those that have run out are forgotten."""

    def __init__(self, wall_clock: WallClock) -> None:
        self._wall_clock = wall_clock
        self._by_key: dict[str, Revocation] = {}
        # One entry for each key: when to look whether it has run out, which is never later than that.
        self._checks: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many hold."""
        self._forget()
        return len(self._by_key)

    def __iter__(self) -> Iterator[Revocation]:
        """Iterate over a snapshot of those that hold."""
        self._forget()
        return iter(list(self._by_key.values()))

    def __contains__(self, key: str) -> bool:
        """Whether a revocation with this key holds."""
        self._forget()
        return key in self._by_key

    def add(self, revocation: Revocation) -> None:
        """Let a revocation hold, merged with the one of its key."""
        self._forget()
        known = self._by_key.get(revocation.key)
        if known is not None:
            revocation = known.merged(revocation)
        elif revocation.expires_at > self._wall_clock():
            heappush(self._checks, (revocation.expires_at, revocation.key))
        else:
            return
        self._by_key[revocation.key] = revocation

    def revokes(self, claims: Claims) -> bool:
        """Whether the token with these claims was taken back."""
        if not self._by_key:
            return False
        names = [(RevocationKind.USER, claims.user_id), (RevocationKind.ISSUED, claims.user_id)]
        if claims.token_id is not None:
            names.append((RevocationKind.TOKEN, claims.token_id))
        now = self._wall_clock()
        found = (self._by_key.get(f"{kind.value}:{name}") for kind, name in names)
        return any(one is not None and now < one.expires_at and one.means(claims) for one in found)

    def _forget(self) -> None:
        now = self._wall_clock()
        while self._checks and self._checks[0][0] <= now:
            key = self._checks[0][1]
            expires_at = self._by_key[key].expires_at
            if expires_at > now:
                heapreplace(self._checks, (expires_at, key))
            else:
                heappop(self._checks)
                del self._by_key[key]
