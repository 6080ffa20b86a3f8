"""Joins and leaves are told once each, in order, and those of a large room not one by one."""

from typing import TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st

from broker.model import Shown
from broker.notices import Notice, PresenceChanged, UserJoined, UserLeft
from broker.rooms.presence.batch import DATA_BYTES_PER_NOTICE, PresenceBatch, data_bytes

Change: TypeAlias = tuple[str, str, int]
"""`joined` or `left`, who, and the size that it brought the room to."""


@st.composite
def histories(draw: st.DrawFn) -> list[str]:
    """Joins (+), leaves (-) where somebody is in, and the timer's rings (t)."""
    size, steps = 0, []
    for step in draw(st.lists(st.sampled_from("+++--t"), max_size=60)):
        if step == "-" and not size:
            continue
        size += {"+": 1, "-": -1, "t": 0}[step]
        steps.append(step)
    return steps


def play(steps: list[str], above: int) -> tuple[list[Change], list[list[Notice]]]:
    """Return what happened, and what was told at each step."""
    batch = PresenceBatch("den", above)
    changes: list[Change] = []
    told: list[list[Notice]] = []
    size = 0
    for number, step in enumerate(steps):
        user = f"user {number}"
        if step == "+":
            size += 1
            changes.append(("joined", user, size))
            told.append(batch.joined(Shown(user), size))
        elif step == "-":
            size -= 1
            changes.append(("left", user, size))
            told.append(batch.left(Shown(user), size))
        else:
            told.append(batch.take(size))
            assert not batch.is_pending
    told.append(batch.take(size))
    return changes, told


@given(histories(), st.integers(0, 5))
@example(list("+++++-----"), 2)
def test_every_join_and_leave_is_told_once_and_in_order(steps: list[str], above: int) -> None:
    changes, told = play(steps, above)
    for notice in (notice for notices in told for notice in notices):
        if isinstance(notice, PresenceChanged):
            assert notice.room == "den"
            now, changes = (
                changes[: len(notice.joined + notice.left)],
                changes[len(notice.joined + notice.left) :],
            )
            assert now
            assert tuple(user for kind, user, _ in now if kind == "joined") == notice.joined
            assert tuple(user for kind, user, _ in now if kind == "left") == notice.left
            assert notice.room_size == now[-1][2]
        else:
            kind, user, size = changes.pop(0)
            expected = {"joined": UserJoined, "left": UserLeft}[kind]
            assert notice == expected("den", user, size)
    assert not changes


@given(histories(), st.integers(0, 5))
def test_changes_are_gathered_only_in_a_large_room_and_told_only_when_the_timer_rings(
    steps: list[str], above: int
) -> None:
    _, told = play(steps, above)
    for step, notices in zip(steps, told, strict=False):
        gathered = [notice for notice in notices if isinstance(notice, PresenceChanged)]
        assert len(notices) <= 1  # of so few; those of a crowd come in several
        assert not gathered or step == "t"


@given(histories())
def test_nothing_is_gathered_in_a_room_that_stays_small(steps: list[str]) -> None:
    _, told = play(steps, above=60)
    assert [len(notices) for notices in told[:-1]] == [0 if step == "t" else 1 for step in steps]


def test_a_large_rooms_joins_cost_their_number_and_not_its_square() -> None:
    batch = PresenceBatch("den", 100)
    told = [notice for size in range(1, 10_001) for notice in batch.joined(Shown("ann"), size)]
    assert len(told) == 100
    gathered = batch.take(10_000)
    assert len(gathered) == 10
    assert sum(len(notice.joined) for notice in gathered if isinstance(notice, PresenceChanged)) == 9900


def test_data_that_is_too_much_for_one_message_comes_in_several() -> None:
    batch = PresenceBatch("den", 0)
    for number in range(2500):
        batch.joined(Shown(f"u{number}", f"c{number}", 0, b"1" * 1000), number + 1)
    notices = batch.take(2500)
    told = [
        shown.connection
        for notice in notices
        if isinstance(notice, PresenceChanged)
        for shown in notice.updated
    ]
    assert told == [f"c{number}" for number in range(2500)]
    assert all(
        isinstance(notice, PresenceChanged) and sum(map(data_bytes, notice.updated)) <= DATA_BYTES_PER_NOTICE
        for notice in notices
    )
