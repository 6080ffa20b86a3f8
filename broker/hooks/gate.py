"""One hook: how many questions are on their way and how many wait, for how long, and what holds while nobody answers.

Each question is awaited by the task that asks, so a slow answer holds up nobody else. Its time limit includes the wait
in the queue: with a bounded queue and a bounded time, none can hang.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import attrs
import trio

from broker.config.patterns import matches
from broker.errors import ErrorCode, GreenroomError, RefusalReason, Refused
from broker.hooks.answers import Allowed, Denied, WrongAnswerError, parse_answer
from broker.hooks.ask import Ask, HookKind
from broker.hooks.breaker import Attempt, Breaker

Send = Callable[[Ask], Awaitable[bytes]]
"""Asks the application, and returns its answer as JSON.

:raises HookFailedError: if there is none.
"""

BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of answer times."""
RETRY_MS = 1000
"""The least time after which a client may ask again that was refused as the application is away."""
LOG_SECONDS = 10.0
"""The least time between two lines about failures of one hook."""
SHARE_OF_ONE_USER = 4
"""One user takes at most this part of a hook: a quarter of what may wait or be on its way."""
AWAY = "the application does not answer"


class HookLog(Protocol):
    """Where failures of hooks are logged."""

    def info(self, event: str, **fields: object) -> None:
        """Log that an application answers again."""

    def warning(self, event: str, **fields: object) -> None:
        """Log that it does not."""


class HookFailedError(GreenroomError):
    """The application gave no answer; the text is one line for the log."""


class Outcome(StrEnum):
    """The outcome of a question, as metrics name it."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    FAILED = "failed"
    """No connection, no answer, or one with another status than 200."""
    WRONG = "wrong"
    """An answer that is none of the protocol."""
    TIMEOUT = "timeout"
    NOT_ASKED = "not_asked"
    """The breaker is open, or the queue is full, or the time was over in the queue."""
    ABANDONED = "abandoned"
    """The client was gone before the answer."""


@attrs.frozen
class GateOptions:
    """The settings of a hook, see `broker.config.settings.HookSettings`."""

    on: frozenset[HookKind]
    rooms: Sequence[str] = ("*",)
    timeout_seconds: float = 2.0
    concurrency: int = 16
    queue: int = 256
    when_away: Literal["refuse", "allow"] = "refuse"
    info_bytes: int = 1024


@attrs.define(eq=False)
class Gate:
    """One hook. `name` and `place` are for metrics and log."""

    name: str
    place: str
    options: GateOptions
    _send: Send
    _log: HookLog
    _breaker: Breaker = attrs.Factory(Breaker)
    _turns: trio.Semaphore = attrs.field(
        default=attrs.Factory(lambda self: trio.Semaphore(self.options.concurrency), takes_self=True)
    )
    _by_user: Counter[str] = attrs.Factory(Counter)
    """Questions that wait or are on their way, by user."""
    _present: int = 0
    _away_since: float | None = None
    _logged_at: float = float("-inf")
    _not_logged: int = 0
    outcomes: Counter[Outcome] = attrs.Factory(Counter)
    """How many questions had which outcome."""
    buckets: list[int] = attrs.Factory(lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    """How many answers took at most each of BOUNDS_SECONDS; the last is of those that took longer."""
    sum_seconds: float = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.is_open

    def is_for(self, kind: HookKind, room: str | None) -> bool:
        """Whether it decides about a step in a room; connections are of no room."""
        return kind in self.options.on and (
            kind is HookKind.CONNECT
            or (room is not None and any(matches(pattern, room) for pattern in self.options.rooms))
        )

    async def decide(self, ask: Ask) -> Allowed:
        """Ask the application; returns within the time limit.

        A call has no answer but the application's, so `when_away` is always `refuse` for it.

        If cancelled, the question is given up, and its answer is not known.

        :raises Refused: if it refuses, with its code and reason; `unavailable` if it is away and `when_away` is
            `refuse`; `rate_limited` if its user has too many questions waiting.
        """
        user = ask.caller.user_id
        most = self.options.concurrency + self.options.queue
        if self._by_user[user] >= max(1, most // SHARE_OF_ONE_USER):
            self.outcomes[Outcome.NOT_ASKED] += 1
            message = "too many requests of this user wait for the application"
            raise Refused(ErrorCode.RATE_LIMITED, message, RETRY_MS)
        if self._present >= most or not self._breaker.is_passable(trio.current_time()):
            return self._stand_in(ask, Outcome.NOT_ASKED)
        self._by_user[user] += 1
        self._present += 1
        try:
            return await self._ask_in_time(ask)
        finally:
            self._present -= 1
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]

    async def _ask_in_time(self, ask: Ask) -> Allowed:
        attempt: Attempt | None = None
        answer: Allowed | Denied | None = None
        began = trio.current_time()
        try:
            with trio.move_on_after(self.options.timeout_seconds):
                async with self._turns:
                    attempt = self._breaker.begin(trio.current_time())
                    if attempt is not None:
                        body = await self._send(ask)
                        answer = parse_answer(body, ask.kind, ask.message, info_bytes=self.options.info_bytes)
        except HookFailedError as error:
            return self._fail(ask, attempt, Outcome.FAILED, str(error))
        except WrongAnswerError as error:
            return self._fail(ask, attempt, Outcome.WRONG, f"wrong answer: {error}")
        except BaseException:
            if attempt is not None:
                self._breaker.abandon(attempt)
            self.outcomes[Outcome.ABANDONED] += 1
            raise
        if attempt is None:
            return self._stand_in(ask, Outcome.NOT_ASKED)
        if answer is None:
            seconds = self.options.timeout_seconds
            return self._fail(ask, attempt, Outcome.TIMEOUT, f"no answer within {seconds:g} seconds")
        self._note_answer(trio.current_time() - began)
        if isinstance(answer, Denied):
            self.outcomes[Outcome.REFUSED] += 1
            retry_ms = None if answer.code is ErrorCode.FORBIDDEN else RETRY_MS
            raise Refused(answer.code, answer.reason, retry_ms, why=RefusalReason.HOOK)
        self.outcomes[Outcome.ALLOWED] += 1
        return answer

    def _note_answer(self, seconds: float) -> None:
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds
        if self._breaker.succeed():
            away = 0.0 if self._away_since is None else trio.current_time() - self._away_since
            self._log.info("hook back", hook=self.name, url=self.place, away_seconds=round(away, 1))

    def _fail(self, ask: Ask, attempt: Attempt | None, outcome: Outcome, reason: str) -> Allowed:
        assert attempt is not None, "nothing is asked without one"
        now = trio.current_time()
        was_away = self.is_away
        if self._breaker.fail(attempt, now):
            self._away_since = now
            self._log.warning(
                "hook away",
                hook=self.name,
                url=self.place,
                reason=reason[:200],
                when_away=self.options.when_away,
            )
        elif not was_away:
            self._log_failure(now, reason)
        return self._stand_in(ask, outcome)

    def _log_failure(self, now: float, reason: str) -> None:
        if now < self._logged_at + LOG_SECONDS:
            self._not_logged += 1
            return
        missed = {"not_logged": self._not_logged} if self._not_logged else {}
        self._logged_at, self._not_logged = now, 0
        self._log.warning("hook failed", hook=self.name, url=self.place, reason=reason[:200], **missed)

    def _stand_in(self, ask: Ask, outcome: Outcome) -> Allowed:
        """Return the decision for an application that is away."""
        self.outcomes[outcome] += 1
        if self.options.when_away == "allow" and ask.kind is not HookKind.CALL:
            return Allowed()
        left_ms = int(self._breaker.seconds_left(trio.current_time()) * 1000)
        raise Refused(ErrorCode.UNAVAILABLE, AWAY, max(RETRY_MS, left_ms), why=RefusalReason.HOOK_AWAY)
