"""A witness: one connection, the stays it had in a room, and whether it heard what it should have."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import attrs
import pytest

from broker.model import Event, Position
from broker.notices import (
    Acknowledged,
    Failed,
    Gap,
    Joined,
    Left,
    Notice,
    PresenceChanged,
    RoomEvent,
    UserJoined,
    UserLeft,
)

if TYPE_CHECKING:
    from tests.support.members import Person

Change: TypeAlias = tuple[str, str, int]
"""`joined` or `left`, who, and the size that it brought the room to."""

Truth: TypeAlias = dict[tuple[str, int | None], Event]
"""Every event that was ever stored, by epoch and offset."""


@attrs.define(eq=False)
class Witness:
    """`begins` and `ends` say where in the room's changes each stay begins, with its own join, and ends."""

    person: "Person"
    is_in: bool = False
    begins: list[int] = attrs.Factory(list)
    ends: list[int] = attrs.Factory(list)
    whispers_before: int = 0
    """How many ephemeral events there were when it last joined."""
    expected_replies: int = 0
    sinces: list[Position | None] = attrs.Factory(list)
    """What each of its joins said that it had seen."""

    @property
    def has_failed(self) -> bool:
        return bool(self.person.disconnects)

    def note_joined(self, place: int, whispers: int) -> None:
        self.is_in = True
        self.begins.append(place)
        self.whispers_before = whispers

    def note_left(self, place: int) -> None:
        self.is_in = False
        self.ends.append(place)

    def stays(self) -> list[list[Notice]]:
        """Return what it heard in each of its stays, from `joined` to the last before `left`."""
        stays: list[list[Notice]] = []
        is_in = False
        for notice in self.person.heard:
            if isinstance(notice, Joined) and not is_in:
                stays.append([])
            is_in = isinstance(notice, Joined) or (is_in and not isinstance(notice, Left))
            if is_in:
                stays[-1].append(notice)
        return stays

    def check_run(self, truth: Truth, now: Position, *, is_all_kept: bool) -> None:
        """It heard a run of events without gap or repeat, up to where the room is if it is still in."""
        # Where it may stand; more than one place, as a gap from 1 may be of this or of a new epoch.
        places: set[Position] = set()
        for notice in self.person.heard:
            match notice:
                case Joined(position=position):
                    assert not places or is_all_told(places, position), "joined again somewhere else"
                    places = {position}
                case RoomEvent(epoch=epoch, event=Event(offset=int(offset))):
                    assert notice.event == truth[epoch, offset]
                    assert is_next(places, epoch, offset), "an event missing or repeated"
                    places = {Position(epoch, offset)}
                case Gap(first=first, last=last):
                    assert not is_all_kept, "a gap though all is kept"
                    epochs = {now.epoch, *(epoch for epoch, _ in truth)}
                    places = {Position(epoch, last) for epoch in epochs if is_next(places, epoch, first)}
                    assert places, "a gap missing or repeated"
                case Left():
                    places = set()
                case RoomEvent() | UserJoined() | UserLeft() | PresenceChanged():
                    assert places, "told of a room it was not in"
        assert not self.is_in or is_all_told(places, now), "was not told all"

    def check_recovered(self, truth: Truth, *, is_all_kept: bool) -> None:
        """Each join was given all that came after what it had seen, or told that this cannot be."""
        for joined, since in zip(self.person.heard_of(Joined), self.sinces, strict=False):
            is_here = since is not None and since.epoch == joined.position.epoch
            missed = joined.position.offset - since.offset if since is not None and is_here else -1
            assert missed >= 0 or not joined.is_recovered
            assert joined.is_recovered or missed < 0 or not is_all_kept
            offsets = range(joined.position.offset - missed + 1, joined.position.offset + 1)
            expected = (
                [truth[joined.position.epoch, offset] for offset in offsets] if joined.is_recovered else []
            )
            assert list(joined.events) == expected

    def check_changes(self, changes: Sequence[Change]) -> None:
        """Every join and leave while it was in was told to it once, in order, with the size."""
        for heard, begin, end in zip(self.stays(), self.begins, [*self.ends, len(changes)], strict=False):
            expected = list(changes[begin:end])
            told = [change for notice in heard for change in one_by_one(notice)]
            assert told == (expected[: len(told)] if self.has_failed else expected)
            assert self.has_failed or isinstance(heard[0], Joined)
            assert self.has_failed or heard[0].room_size == expected[0][2]  # type: ignore[union-attr]

    def check_gathered(self, changes: Sequence[Change], seconds: float) -> None:
        """One who comes while others are gathered hears of those too, and of nothing twice or too often."""
        for heard, begin, end in zip(self.stays(), self.begins, [*self.ends, len(changes)], strict=False):
            for kind in ("joined", "left"):
                told = [user for notice in heard for user in users_of(notice, kind)]
                happened = [user for what, user, _ in changes[:end] if what == kind]
                own = sum(what == kind for what, _, _ in changes[: begin + 1])
                assert any(told == happened[first : first + len(told)] for first in range(own + 1))
        told_at = [
            at
            for at, notice in zip(self.person.outbox.heard_at, self.person.heard, strict=True)
            if isinstance(notice, PresenceChanged)
        ]
        least = seconds - 1e-6
        assert all(later - sooner > least for sooner, later in pairwise(told_at)), "told too often"

    def check_whispers(self, whispers: Sequence[str]) -> None:
        """Ephemeral events are heard by all who are in, once and in order."""
        for stay in self.stays():
            heard = [
                n.event.content.decode() for n in stay if isinstance(n, RoomEvent) and n.event.offset is None
            ]
            assert len(set(heard)) == len(heard)
        if self.is_in:
            assert heard == whispers[len(whispers) - len(heard) :]
            assert len(heard) >= len(whispers) - self.whispers_before

    def check_replies(self, truth: Truth, *, may_be_lost: bool) -> None:
        """Every publish with an id was answered, with the position of what was said under that id."""
        acks = self.person.heard_of(Acknowledged)
        refusals = [failed for failed in self.person.heard_of(Failed) if failed.request_id is not None]
        replies = len(acks) + len(refusals)
        if may_be_lost:
            self.expected_replies = replies
        assert replies == self.expected_replies or self.has_failed
        for ack in acks:
            if ack.position is not None:
                text = truth[ack.position.epoch, ack.position.offset].content.decode()
                assert text.startswith(f"{self.person.user_id} {ack.request_id} ")


def is_next(places: set[Position], epoch: str, offset: int) -> bool:
    return any(offset == (place.offset + 1 if place.epoch == epoch else 1) for place in places)


def is_all_told(places: set[Position], now: Position) -> bool:
    # A new epoch is heard of with its first event.
    return now in places or (not now.offset and any(place.epoch != now.epoch for place in places))


def one_by_one(notice: Notice) -> list[Change]:
    match notice:
        case UserJoined(_, user_id, size):
            return [("joined", user_id, size)]
        case UserLeft(_, user_id, size):
            return [("left", user_id, size)]
    assert not isinstance(notice, PresenceChanged)
    return []


def users_of(notice: Notice, kind: str) -> tuple[str, ...]:
    match notice:
        case UserJoined(_, user_id, _):
            return (user_id,) if kind == "joined" else ()
        case UserLeft(_, user_id, _):
            return (user_id,) if kind == "left" else ()
        case PresenceChanged(_, joined, left, _):
            return joined if kind == "joined" else left
    return ()


@pytest.fixture(scope="session")
def new_witness() -> "Callable[[Person], Witness]":
    return Witness
