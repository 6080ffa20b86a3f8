"""A publisher's decisions on answers and failures. Pure; shared by both publishers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, TypeVar

import attrs
import msgspec

from broker.client.errors import ClientError, RefusedError, UnavailableError
from broker.client.results import Outcome, Published

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
"""Too Many Requests, and the temporary errors of gateways and servers (RFC 9110 section 15)."""

ATTEMPT_SECONDS = 5.0
"""Time limit of one attempt."""

LEAST_SECONDS = 0.001
"""A time limit of 0 means none for sockets."""

FIRST_SECONDS = 0.1
MAX_SECONDS = 5.0

T = TypeVar("T")


@attrs.frozen
class RetryAfter:
    """Send the request again after this delay."""

    after_seconds: float


@attrs.define
class Attempts:
    """The attempts at one request, all with the same key if it has one.

    Times are in seconds, of a monotonic clock that goes on while the machine sleeps: the server forgets the key meanwhile,
    and would then apply a repeated request a second time.
    """

    idempotency_key: str | None
    _give_up_at: float
    _random: Random
    _failures: int = 0
    _reason: str = ""
    """That of the last failure."""

    def answered(self, status: int, headers: dict[str, str], body: bytes, now: float) -> bytes | RetryAfter:
        """Return the body of a good answer, or the delay before the next attempt. Header names are in lower case.

        :raises RefusedError: if the answer will not change.
        :raises UnavailableError: if there is no time left to ask again.
        """
        if 200 <= status < 300:
            return body
        wait_seconds = _retry_after_seconds(headers.get("retry-after"), headers.get("date"))
        refused = _read_problem(status, body, wait_seconds)
        if status not in RETRIED_STATUSES:
            raise refused
        return self._retry_after(str(refused), refused.retry_after_seconds, now)

    def failed(self, reason: str, now: float) -> RetryAfter:
        """Return the delay before the next attempt after there was no answer.

        :raises UnavailableError: if there is no time left to ask again.
        """
        return self._retry_after(reason, None, now)

    def left_seconds(self, now: float) -> float:
        """Return the time limit of an attempt that begins now, so that a dead connection leaves time for another."""
        return max(LEAST_SECONDS, min(ATTEMPT_SECONDS, self._give_up_at - now))

    def check_time(self, now: float) -> None:
        """Check the time after a delay: the machine may have slept.

        :raises UnavailableError: if there is no time left to ask again.
        """
        if now >= self._give_up_at:
            raise UnavailableError(
                f"{self._reason}; gave up after {self._failures} attempts",
                idempotency_key=self.idempotency_key,
            )

    def _retry_after(self, reason: str, retry_after_seconds: float | None, now: float) -> RetryAfter:
        cap = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 32))
        self._failures += 1
        self._reason = reason
        # Full jitter on top of Retry-After, so that refused clients do not return together.
        delay = (retry_after_seconds or 0.0) + self._random.uniform(0.0, cap)
        if now + delay >= self._give_up_at:
            raise UnavailableError(
                f"{reason}; gave up after {self._failures} attempts",
                idempotency_key=self.idempotency_key,
                retry_after_seconds=retry_after_seconds,
            )
        return RetryAfter(delay)


def read_answer(body: bytes, kind: type[T]) -> T:
    """Read an answer.

    :raises ClientError: if it is no answer of a Greenroom server.
    """
    with _expecting_greenroom():
        return msgspec.json.decode(body, type=kind)


def read_count(field: str) -> Callable[[bytes], int]:
    """Return what reads an answer of one number; see `read_answer`."""

    def read(body: bytes) -> int:
        with _expecting_greenroom():
            return msgspec.json.decode(body, type=dict[str, int])[field]

    return read


def read_outcomes(body: bytes) -> list[Outcome]:
    """Read the answer to a broadcast.

    :raises ClientError: if it is no answer of a Greenroom server.
    """
    with _expecting_greenroom():
        return [_read_outcome(result) for result in msgspec.json.decode(body, type=_Results).results]


class _Results(msgspec.Struct):
    """The answer to a broadcast."""

    results: list[dict[str, Any]]


@contextmanager
def _expecting_greenroom() -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ClientError("what answered is no Greenroom server") from None


def _read_outcome(result: dict[str, Any]) -> Outcome:
    error = result.get("error")
    if error is None:
        return Outcome(result["room"], msgspec.convert(result, Published), None)
    after_ms = error.get("retry_after_ms")
    refused = RefusedError(
        error["code"], error["message"], retry_after_seconds=None if after_ms is None else after_ms / 1000
    )
    return Outcome(result["room"], None, refused)


class _Problem(msgspec.Struct):
    """The members of a problem document (RFC 9457) that are used."""

    detail: str = ""
    code: str = ""


def _read_problem(status: int, body: bytes, retry_after_seconds: float | None) -> RefusedError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # A proxy may answer in another format.
        problem = _Problem()
    return RefusedError(
        problem.code or f"http_{status}",
        problem.detail or f"the server answered with status {status}",
        retry_after_seconds=retry_after_seconds,
    )


def _retry_after_seconds(value: str | None, date: str | None) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110 section 10.2.3); None if it is neither.

    A date is by the server's clock, so it is compared with the answer's Date (section 6.6.1), where there is one.
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    moment = _read_date(value)
    if moment is None:
        return None
    now = None if date is None else _read_date(date)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _read_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        # A year at the end of the calendar has no UTC.
        return moment.astimezone(UTC)
    except (
        ValueError,
        TypeError,
        IndexError,
        OverflowError,
    ):  # whatever the standard library's parser raises
        return None
