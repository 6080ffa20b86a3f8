"""The turns of one room with code, as its members and callers saw them, and whether they were one sequence. Pure.

Each turn of such a room says one event that records it, so the room's history is the list of its turns.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count, pairwise

import attrs
import msgspec

from tests.support.history_checker import Place, faults_of_member


class Turn(msgspec.Struct, frozen=True):
    """The record of one turn."""

    number: int
    kind: str
    """`open`, `join`, `leave`, `call`, `message` or `timer`."""
    label: str
    """Of a call or a message, the text by which its requester knows it; of a timer, its name."""
    before: int
    after: int
    """The value of the room around the turn."""
    owner: str
    """The instance that ran the turn; each has its own `open`."""
    timer: str | None = None
    """The timer that the turn set."""


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request; the values are None where it does not name them."""

    number: int
    before: int | None = None
    after: int | None = None
    owner: str | None = None


NOTHING_DONE = None
"""The answer to a call that was no turn of its own: a bid that is too low."""


@attrs.define
class Request:
    """One call or message with its repetitions; the times are those of `TurnHistory`, of no clock."""

    began: int
    ended: int | None = None
    answer: Answer | None = NOTHING_DONE


@attrs.define
class TurnHistory:
    """All that was asked of one room, answered, heard and stored."""

    requests: dict[str, Request] = attrs.Factory(dict)
    heard: dict[str, list[tuple[Place, Turn]]] = attrs.Factory(dict)
    """By member, in the order of arrival, over all its connections."""
    stored: list[tuple[Place, Turn]] = attrs.Factory(list)
    """The history of the room in the end."""
    _time: Iterator[int] = attrs.Factory(count)

    def begin(self, label: str) -> None:
        """Note that a request begins."""
        self.requests[label] = Request(next(self._time))

    def answer(self, label: str, answer: Answer | None) -> None:
        """Note the answer to a request."""
        request = self.requests[label]
        request.ended, request.answer = next(self._time), answer

    def hear(self, member: str, place: Place, turn: Turn) -> None:
        """Note a turn that a member was told of."""
        self.heard.setdefault(member, []).append((place, turn))

    def pending_timers(self) -> set[str]:
        """Return the stored timers that were set and did not fire."""
        pending: set[str] = set()
        for _, turn in self.stored:
            if turn.kind == "timer":
                pending.discard(turn.label)
            if turn.timer is not None:
                pending.add(turn.timer)
        return pending

    def faults(self) -> Iterator[str]:
        """Say what no room may show."""
        yield from self._faults_of_sequence()
        yield from self._faults_of_owners()
        yield from self._faults_of_timers()
        yield from self._faults_of_requests()
        yield from self._faults_of_order()
        for member, heard in self.heard.items():
            yield from faults_of_member(member, heard, self.stored)

    def _faults_of_sequence(self) -> Iterator[str]:
        if len({place.epoch for place, _ in self.stored}) > 1:
            yield "the history has several epochs"
        if [place.offset for place, _ in self.stored] != list(range(1, len(self.stored) + 1)):
            yield "the history has holes"
        number, value = 0, 0
        for _, turn in self.stored:
            if turn.number != number + 1:
                yield f"turn {turn.number} came after turn {number}"
            if turn.before != value:
                yield f"turn {turn.number} began with {turn.before}, and the turn before had left {value}"
            number, value = turn.number, turn.after

    def _faults_of_owners(self) -> Iterator[str]:
        present = None
        opened: set[str] = set()
        for _, turn in self.stored:
            if turn.kind == "open":
                if turn.owner in opened:
                    yield f"{turn.owner} opened the room again at turn {turn.number}"
                opened.add(turn.owner)
                present = turn.owner
            elif turn.owner != present:
                yield f"turn {turn.number} was run by {turn.owner}, and the room was open at {present}"

    def _faults_of_timers(self) -> Iterator[str]:
        pending: set[str] = set()
        for _, turn in self.stored:
            if turn.kind == "timer":
                if turn.label not in pending:
                    yield f"timer {turn.label} fired at turn {turn.number} and was not set"
                pending.discard(turn.label)
            if turn.timer is not None:
                pending.add(turn.timer)
        for name in sorted(pending):
            yield f"timer {name} is lost"

    def _faults_of_requests(self) -> Iterator[str]:
        asked = [turn for _, turn in self.stored if turn.kind in {"call", "message"}]
        for label, times in Counter(turn.label for turn in asked).items():
            if times > 1:
                yield f"{label} was done {times} times"
            if label not in self.requests:
                yield f"{label} was never asked"
        done = {turn.label: turn for turn in asked}
        for label, request in self.requests.items():
            if request.ended is not None and (fault := _fault_of_answer(request.answer, done.get(label))):
                yield f"{label} {fault}"

    def _faults_of_order(self) -> Iterator[str]:
        """Find turns that came before a turn whose answer was known when they were asked for."""
        numbers = {turn.label: turn.number for _, turn in self.stored if turn.kind in {"call", "message"}}
        moments = [(request.began, label) for label, request in self.requests.items() if label in numbers]
        moments += [
            (request.ended, label)
            for label, request in self.requests.items()
            if label in numbers and request.ended is not None
        ]
        latest = 0
        for time, label in sorted(moments):
            if time == self.requests[label].ended:
                latest = max(latest, numbers[label])
            elif numbers[label] <= latest:
                yield f"{label} came before a turn that was answered before it began"


def _fault_of_answer(answer: Answer | None, turn: Turn | None) -> str | None:
    if answer is NOTHING_DONE:
        return None if turn is None else f"was answered as not done, and was turn {turn.number}"
    if turn is None:
        return "was answered and is lost"
    if answer.number != turn.number:
        return f"was answered as turn {answer.number}, and was turn {turn.number}"
    if answer.before is not None and (answer.before, answer.after) != (turn.before, turn.after):
        return f"was answered with other values than those of turn {turn.number}"
    return None


def openings(turns: list[tuple[Place, Turn]]) -> int:
    """Return how often the room was opened after its first time."""
    return sum(
        turn.kind == "open" and before.owner != turn.owner for (_, before), (_, turn) in pairwise(turns)
    )
