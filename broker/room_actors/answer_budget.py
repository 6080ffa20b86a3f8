"""A budget of bytes for the stored answers to calls with an id. Pure."""

from collections import OrderedDict

import attrs

from broker.model import IdempotencyKey
from broker.sessions.rate import TokenBucket

SMALL_BYTES = 256
"""An answer of up to so many bytes is always stored: it is no larger than what is stored of its key."""

DROPPED = b""
"""The stored content of an answer that was not kept. No JSON is empty."""


@attrs.frozen
class AnswerLimits:
    """The bytes of answers that may be stored at a time, of one user and in all, each for `seconds`."""

    user_bytes: int
    total_bytes: int
    seconds: float

    def bucket(self, limit_bytes: int, now: float) -> TokenBucket:
        """Return a bucket that lets no more than `limit_bytes` pass in any `seconds`."""
        # A window permits at most a burst and what is earned within it, so each is half of the limit.
        burst = max(1, limit_bytes // 2)
        return TokenBucket(burst / self.seconds, burst, now)


class AnswerBudget:
    """Decides which answers of one node are stored with their content, and which only as given. Times are in seconds.

    That a call was done is stored in any case, so that it is never done twice.
    """

    def __init__(self, limits: AnswerLimits, now: float) -> None:
        self._limits = limits
        self._total = limits.bucket(limits.total_bytes, now)
        # A bucket that was not used for a window is full, and so equal to a new one; the longest unused first.
        self._scopes: OrderedDict[str, tuple[TokenBucket, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of users that are counted."""
        return len(self._scopes)

    def kept(self, key: IdempotencyKey, content: bytes, now: float) -> bytes:
        """Return what to store of the answer to a call: its content, or `DROPPED`."""
        size = len(content)
        if size <= SMALL_BYTES:
            return content
        bucket = self._bucket_of(key.scope, now)
        if bucket.take(now, size):
            return DROPPED
        if self._total.take(now, size):
            bucket.give_back(size)
            return DROPPED
        return content

    def _bucket_of(self, scope: str, now: float) -> TokenBucket:
        while self._scopes and next(iter(self._scopes.values()))[1] + self._limits.seconds <= now:
            self._scopes.popitem(last=False)
        bucket, _ = self._scopes.pop(scope, (None, now))
        if bucket is None:
            bucket = self._limits.bucket(self._limits.user_bytes, now)
        self._scopes[scope] = (bucket, now)
        return bucket
