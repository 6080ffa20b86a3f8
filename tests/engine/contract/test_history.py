"""The stored history of a room, reading it, and continuing from a position."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.base import Engine, Receipt, Retention, Run
from broker.model import Draft, Event, IdempotencyKey, Position

if TYPE_CHECKING:
    from tests.engine.contract.conftest import Wall

KEEP_ALL = Retention(1000, 1_000_000, 86_400.0)


def draft(number: int, size_bytes: int = 30) -> Draft:
    return Draft(b'{"type":"order","n":%d}' % number + b" " * (size_bytes - 22))


async def fill(engine: Engine, count: int, retention: Retention = KEEP_ALL) -> None:
    for number in range(1, count + 1):
        await engine.append("den", [draft(number)], retention)


async def held(engine: Engine) -> tuple[int, list[int | None]]:
    """Return the first held offset and all held offsets."""
    run = await engine.read("den")
    return run.first_held, [event.offset for event in run.events]


async def read(engine: Engine, after: int, limit: int | None, *, reverse: bool) -> list[int | None]:
    run = await engine.read("den", after=after, limit=limit, reverse=reverse)
    assert (run.position.offset, run.first_held) == (5, 1)
    return [event.offset for event in run.events]


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(1000, 1_000_000, 86_400.0), (1, [1, 2, 3, 4, 5])),
        (Retention(5, 1_000_000, 86_400.0), (1, [1, 2, 3, 4, 5])),
        (Retention(2, 1_000_000, 86_400.0), (4, [4, 5])),
        (Retention(1000, 150, 86_400.0), (1, [1, 2, 3, 4, 5])),
        (Retention(1000, 149, 86_400.0), (2, [2, 3, 4, 5])),
        (Retention(1000, 30, 86_400.0), (5, [5])),
        (Retention(1000, 29, 86_400.0), (6, [])),
        (Retention(2, 119, 86_400.0), (4, [4, 5])),
        (Retention(4, 60, 86_400.0), (4, [4, 5])),
        (Retention(0, 1_000_000, 86_400.0), (6, [])),
        (Retention(1000, 0, 86_400.0), (6, [])),
        (Retention(1000, 1_000_000, 0.0), (6, [])),
    ],
)
async def test_the_tightest_bound_decides_the_length_of_the_history(
    engine: Engine, retention: Retention, expected: tuple[int, list[int]]
) -> None:
    await fill(engine, 5, retention)
    assert await held(engine) == expected
    assert (await engine.position("den")).offset == 5


async def test_one_append_of_more_than_is_kept_leaves_the_newest(engine: Engine) -> None:
    await engine.append("den", [draft(number) for number in range(10)], Retention(3, 1_000_000, 86_400.0))
    assert await held(engine) == (8, [8, 9, 10])


async def test_an_event_is_kept_for_its_age(engine: Engine, wall: "Wall") -> None:
    retention = Retention(1000, 1_000_000, 60.0)
    await engine.append("den", [draft(1)], retention)
    wall.now += 30
    await engine.append("den", [draft(2)], retention)
    wall.now += 29
    assert await held(engine) == (1, [1, 2])
    wall.now += 1
    assert await held(engine) == (2, [2])
    wall.now += 30
    assert await held(engine) == (3, [])
    assert (await engine.position("den")).offset == 2


async def test_expired_events_do_not_return_with_a_longer_age(engine: Engine, wall: "Wall") -> None:
    await engine.append("den", [draft(1), draft(2)], Retention(1000, 1_000_000, 10.0))
    wall.now += 10
    assert await held(engine) == (3, [])
    await engine.append("den", [draft(3)], KEEP_ALL)
    assert await held(engine) == (3, [3])


async def test_the_retention_of_the_last_append_holds(engine: Engine) -> None:
    await fill(engine, 5)
    await engine.append("den", [draft(6)], Retention(2, 1_000_000, 86_400.0))
    assert await held(engine) == (5, [5, 6])
    await engine.append("den", [draft(7)], KEEP_ALL)
    assert await held(engine) == (5, [5, 6, 7])


@pytest.mark.parametrize(
    ("after", "limit", "forwards", "backwards"),
    [
        (0, None, [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]),
        (0, 2, [1, 2], [5, 4]),
        (2, None, [3, 4, 5], [5, 4, 3]),
        (2, 2, [3, 4], [5, 4]),
        (2, 100, [3, 4, 5], [5, 4, 3]),
        (4, 1, [5], [5]),
        (5, None, [], []),
        (6, None, [], []),
        (2**63 - 1, 3, [], []),
        (0, 0, [], []),
    ],
)
async def test_history_is_read_from_either_end(
    engine: Engine, after: int, limit: int | None, forwards: list[int], backwards: list[int]
) -> None:
    await fill(engine, 5)
    assert await read(engine, after, limit, reverse=False) == forwards
    assert await read(engine, after, limit, reverse=True) == backwards


async def test_reading_from_before_the_history_returns_all_of_it(engine: Engine) -> None:
    await fill(engine, 5, Retention(2, 1_000_000, 86_400.0))
    run = await engine.read("den", after=1, limit=1)
    assert [event.offset for event in run.events] == [4]
    assert not run.can_continue(Position(run.position.epoch, 1))
    assert run.can_continue(Position(run.position.epoch, 3))


@given(st.integers(0, 10), st.integers(0, 10), st.integers(-1, 12), st.booleans())
def test_a_reader_can_continue_if_all_missed_events_are_held(
    trimmed: int, held_events: int, offset: int, is_same_epoch: bool
) -> None:
    last = trimmed + held_events
    events = tuple(Event(b"{}", 0, number) for number in range(trimmed + 1, last + 1))
    run = Run(Position("e", last), trimmed + 1, events)
    missed = set(range(offset + 1, last + 1))
    is_whole = missed <= {event.offset for event in events} and offset <= last
    assert run.can_continue(Position("e" if is_same_epoch else "f", offset)) == (is_whole and is_same_epoch)


async def test_a_cleared_room_holds_nothing_and_goes_on(engine: Engine) -> None:
    assert await engine.clear("den") == 0
    await fill(engine, 3)
    key = IdempotencyKey("http", "k")
    [receipt] = await engine.append("den", [Draft(b"{}", key=key)], KEEP_ALL)
    await engine.append("attic", [draft(1)], KEEP_ALL)
    before = await engine.position("den")
    assert await engine.clear("den") == 4
    assert await held(engine) == (5, [])
    assert await engine.position("den") == before
    assert await engine.clear("den") == 0
    assert list(await engine.append("den", [Draft(b"{}", key=key)], KEEP_ALL)) == [
        Receipt(receipt.position, None)
    ]
    await engine.append("den", [draft(5)], KEEP_ALL)
    assert await held(engine) == (5, [5])
    run = await engine.read("den")
    assert run.can_continue(before)
    assert not run.can_continue(Position(before.epoch, 3))
    assert len((await engine.read("attic")).events) == 1
