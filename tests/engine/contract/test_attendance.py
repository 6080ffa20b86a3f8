"""The entries of users who come and leave, as every engine writes them."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from broker.engine.attendance import Attendance, user_place
from broker.engine.base import Engine, Retention
from broker.engine.outbox import Kind, Queue
from broker.model import Draft, EventHeader

if TYPE_CHECKING:
    from tests.engine.contract.conftest import OpenEngine, Wall

BEGIN_MS = 1_700_000_000_000
HOLD_BACK_SECONDS = 5.0
PEOPLE = frozenset(Kind) - {Kind.MESSAGE}
QUEUES = (
    Queue("all", frozenset(Kind), hold_back_seconds=HOLD_BACK_SECONDS),
    Queue("at once", PEOPLE, hold_back_seconds=0.0),
    Queue("came", frozenset({Kind.USER_JOINED}), ("den", "a*"), hold_back_seconds=HOLD_BACK_SECONDS),
    Queue("vacated", frozenset({Kind.ROOM_VACATED, Kind.USER_OFFLINE}), ("den",), hold_back_seconds=2.0),
)

JOINED, LEFT = Kind.USER_JOINED, Kind.USER_LEFT
OCCUPIED, VACATED = Kind.ROOM_OCCUPIED, Kind.ROOM_VACATED
ONLINE, OFFLINE = Kind.USER_ONLINE, Kind.USER_OFFLINE


@pytest.fixture
async def engine(open_engine_under_test: "OpenEngine", wall: "Wall") -> AsyncIterator[Engine]:
    async with open_engine_under_test(wall, queues=QUEUES) as opened:
        await opened.wait_ready()
        yield opened


@pytest.fixture
def attendance(engine: Engine) -> Attendance:
    assert engine.attendance is not None
    return engine.attendance


Told = tuple[Kind, str | None, str | None]


def by_place(entries: list[Told]) -> list[Told]:
    """Return entries in the order of their places; at each they have the order in which they were."""
    return sorted(entries, key=lambda each: (each[1] or "", "" if each[1] else each[2] or ""))


async def told(engine: Engine, queue: str = "all") -> list[Told]:
    """Return kind, room and user of each entry, by place."""
    assert engine.outbox is not None
    assert engine.attendance is not None
    await engine.attendance.wait_written()
    entries = await engine.outbox.read(engine.outbox.partitions[0], queue, limit=1000)
    assert [entry.number for entry in entries] == sorted({entry.number for entry in entries})
    return by_place([(entry.kind, entry.room, entry.user) for entry in entries])


@pytest.mark.parametrize("queues", [(), (Queue("messages", frozenset({Kind.MESSAGE})),)])
async def test_there_is_no_book_where_no_queue_wants_one(
    open_engine_under_test: "OpenEngine", wall: "Wall", queues: tuple[Queue, ...]
) -> None:
    async with open_engine_under_test(wall, queues=queues) as engine:
        assert engine.attendance is None


async def test_the_first_and_the_last_are_told(engine: Engine, attendance: Attendance, wall: "Wall") -> None:
    attendance.came("den", "ann", b'{"name":"\xc3\x84nn"}')
    attendance.came("den", "bob", None)
    attendance.came("attic", "ann", None)
    came: list[Told] = [
        *[(OCCUPIED, "attic", None), (JOINED, "attic", "ann")],
        *[(OCCUPIED, "den", None), (JOINED, "den", "ann"), (JOINED, "den", "bob")],
    ]
    assert await told(engine, "at once") == came
    assert await told(engine, "came") == [each for each in came if each[0] is JOINED]
    assert await told(engine, "vacated") == []
    wall.now += 1.0
    attendance.left("den", "ann")
    attendance.left("attic", "ann")
    attendance.left("den", "bob")
    left: list[Told] = [
        *[(LEFT, "attic", "ann"), (VACATED, "attic", None)],
        *[(LEFT, "den", "ann"), (LEFT, "den", "bob"), (VACATED, "den", None)],
    ]
    assert await told(engine, "at once") == by_place([*came, *left])
    assert await told(engine) == came
    wall.now += HOLD_BACK_SECONDS - 0.001
    assert await told(engine) == came
    wall.now += 0.001
    assert await told(engine) == by_place([*came, *left])
    assert await told(engine, "vacated") == [(VACATED, "den", None)]
    assert await told(engine, "came") == [each for each in came if each[0] is JOINED]


async def test_entries_have_the_time_at_which_it_happened_and_the_info(
    engine: Engine, attendance: Attendance, wall: "Wall"
) -> None:
    attendance.came("den", "ann", b'{"name":"\xc3\x84nn"}')
    attendance.came(user_place("ann"), "ann", b"[1]")
    await attendance.wait_written()
    wall.now += 1.0
    attendance.left("den", "ann")
    await attendance.wait_written()
    wall.now += 60.0
    assert engine.outbox is not None
    entries = await engine.outbox.read(engine.outbox.partitions[0], "all", limit=10)
    assert {each.kind: json.loads(bytes(each.fields)) for each in entries} == {
        OCCUPIED: {},
        JOINED: {"info": {"name": "Änn"}},
        ONLINE: {"info": [1]},
        LEFT: {},
        VACATED: {},
    }
    assert [each.time_ms - BEGIN_MS for each in entries] == [0, 0, 0, 1000, 1000]
    assert [each.queued_ms - BEGIN_MS for each in entries] == [0, 0, 0, 61_000, 61_000]


async def test_who_returns_before_the_time_is_no_event(
    engine: Engine, attendance: Attendance, wall: "Wall"
) -> None:
    attendance.came("den", "ann", None)
    attendance.came(user_place("ann"), "ann", None)
    came = by_place([(OCCUPIED, "den", None), (JOINED, "den", "ann"), (ONLINE, None, "ann")])
    for _ in range(3):
        wall.now += 1.0
        attendance.left("den", "ann")
        attendance.left(user_place("ann"), "ann")
        assert await told(engine) == came
        wall.now += HOLD_BACK_SECONDS - 0.001
        attendance.came("den", "ann", None)
        attendance.came(user_place("ann"), "ann", None)
        assert await told(engine) == came
    wall.now += 2 * HOLD_BACK_SECONDS
    assert await told(engine) == came
    assert await told(engine, "came") == [(JOINED, "den", "ann")]
    # The queue with another time has told it.
    assert (await told(engine, "vacated")).count((VACATED, "den", None)) == 3
    assert (await told(engine, "at once")).count((JOINED, "den", "ann")) == 4


async def test_who_returns_after_the_time_is_told_of_behind_the_leave(
    engine: Engine, attendance: Attendance, wall: "Wall"
) -> None:
    attendance.came("den", "ann", None)
    await attendance.wait_written()
    wall.now += 1.0
    attendance.left("den", "ann")
    await attendance.wait_written()
    wall.now += HOLD_BACK_SECONDS
    # Nobody has read meanwhile.
    attendance.came("den", "ann", None)
    came = [(OCCUPIED, "den", None), (JOINED, "den", "ann")]
    assert await told(engine) == [*came, (LEFT, "den", "ann"), (VACATED, "den", None), *came]
    assert await told(engine, "came") == [(JOINED, "den", "ann")] * 2


async def test_another_user_keeps_a_room_occupied(
    engine: Engine, attendance: Attendance, wall: "Wall"
) -> None:
    attendance.came("den", "ann", None)
    attendance.left("den", "ann")
    await attendance.wait_written()
    wall.now += 1.0
    attendance.came("den", "bob", None)
    await attendance.wait_written()
    wall.now += HOLD_BACK_SECONDS
    assert await told(engine) == [
        *[(OCCUPIED, "den", None), (JOINED, "den", "ann")],
        *[(JOINED, "den", "bob"), (LEFT, "den", "ann")],
    ]


async def test_a_note_of_what_is_so_already_changes_nothing(engine: Engine, attendance: Attendance) -> None:
    attendance.left("den", "ann")
    attendance.came("den", "ann", None)
    attendance.came("den", "ann", None)
    attendance.left("den", "ann")
    attendance.left("den", "ann")
    assert await told(engine, "at once") == [
        *[(OCCUPIED, "den", None), (JOINED, "den", "ann")],
        *[(LEFT, "den", "ann"), (VACATED, "den", None)],
    ]


async def test_messages_and_users_are_in_one_queue(engine: Engine, attendance: Attendance) -> None:
    attendance.came("den", "ann", None)
    await attendance.wait_written()
    keep = Retention(1000, 1_000_000, 86_400.0)
    await engine.append("den", [Draft(b"{}", header=EventHeader("x", sender="ann"))], keep)
    attendance.came("den", "bob", None)
    assert await told(engine) == [
        *[(OCCUPIED, "den", None), (JOINED, "den", "ann")],
        *[(Kind.MESSAGE, "den", "ann"), (JOINED, "den", "bob")],
    ]
