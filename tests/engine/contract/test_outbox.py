"""The outbox of every engine: what is written to the queues, and how it is read, removed and put aside."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import pytest
import trio

from broker.engine.base import Engine, Receipt, Retention
from broker.engine.outbox import AsideEntry, Entry, FencedError, Kind, Outbox, Queue, QueueStatistics
from broker.errors import EngineUnavailableError
from broker.model import Draft, EventHeader, IdempotencyKey
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.engine.contract.conftest import OpenEngine, Wall

KEEP_ALL = Retention(1000, 1_000_000, 86_400.0)
KEEP_NONE = Retention(0, 0, 0.0)
BEGIN_MS = 1_700_000_000_000
LONG_SECONDS = 600.0

ALL = Queue("all", frozenset(Kind))
QUEUES = (
    ALL,
    Queue("orders", frozenset({Kind.MESSAGE}), ("order-*", "till")),
    Queue("people", frozenset(Kind) - {Kind.MESSAGE}),
)


@pytest.fixture
async def engine(open_engine_under_test: "OpenEngine", wall: "Wall") -> AsyncIterator[Engine]:
    async with open_engine_under_test(wall, queues=QUEUES) as opened:
        yield opened


@pytest.fixture
def outbox(engine: Engine) -> Outbox:
    assert engine.outbox is not None
    return engine.outbox


@pytest.fixture
def partition(outbox: Outbox) -> str:
    [only] = outbox.partitions
    return only


def draft(number: int, key: str | None = None, *, ephemeral: bool = False) -> Draft:
    content = b'{"type":"n","n":%d,"text":"\xc3\xa4\\u0000"}' % number
    header = EventHeader("n", sender="ann" if number % 2 else None, connection="c-1")
    return Draft(content, ephemeral, None if key is None else IdempotencyKey("ann", key), header)


def numbers_of(entries: Sequence[Entry]) -> list[int]:
    return [entry.number for entry in entries]


def contents_of(entries: Sequence[Entry]) -> list[int]:
    return [json.loads(bytes(entry.fields))["content"]["n"] for entry in entries]


async def waiting(outbox: Outbox, queue: str = "all") -> list[Entry]:
    return list(await outbox.read(outbox.partitions[0], queue, limit=1000))


async def lease(outbox: Outbox, holder: str = "a") -> int:
    fence = await outbox.lease(outbox.partitions[0], holder, LONG_SECONDS)
    assert fence is not None
    return fence


async def test_an_engine_without_queues_has_no_outbox(
    open_engine_under_test: "OpenEngine", wall: "Wall"
) -> None:
    async with open_engine_under_test(wall) as engine:
        assert engine.outbox is None


async def test_a_stored_event_is_written_with_its_position(
    engine: Engine, outbox: Outbox, wall: "Wall"
) -> None:
    assert await waiting(outbox) == []
    [first] = await engine.append("till", [draft(1)], KEEP_ALL)
    wall.now += 1.5
    [_, second] = await engine.append("till", [draft(2), draft(3)], KEEP_NONE)
    entries = await waiting(outbox)
    assert [(each.kind, each.room, each.user) for each in entries] == [
        (Kind.MESSAGE, "till", "ann"),
        (Kind.MESSAGE, "till", None),
        (Kind.MESSAGE, "till", "ann"),
    ]
    assert [each.time_ms for each in entries] == [BEGIN_MS, BEGIN_MS + 1500, BEGIN_MS + 1500]
    assert [each.queued_ms for each in entries] == [BEGIN_MS, BEGIN_MS + 1500, BEGIN_MS + 1500]
    for entry, receipt in ((entries[0], first), (entries[2], second)):
        assert receipt.position is not None
        assert receipt.event is not None
        assert json.loads(bytes(entry.fields)) == {
            "offset": receipt.position.offset,
            "epoch": receipt.position.epoch,
            "content": json.loads(receipt.event.content),
        }
    assert numbers_of(entries) == sorted(set(numbers_of(entries)))
    assert len({entry.id for entry in entries}) == 3
    assert await waiting(outbox) == entries
    # A queue of its own numbers, or of the same ones: they rise all the same.
    assert contents_of(await waiting(outbox, "orders")) == [1, 2, 3]


async def test_a_queue_has_the_kinds_and_rooms_that_it_wants(engine: Engine, outbox: Outbox) -> None:
    for number, room in enumerate(("den", "order-1", "order", "till", "order-"), 1):
        await engine.append(room, [draft(number)], KEEP_ALL)
    assert contents_of(await waiting(outbox)) == [1, 2, 3, 4, 5]
    assert contents_of(await waiting(outbox, "orders")) == [2, 4, 5]
    assert await waiting(outbox, "people") == []


async def test_what_is_not_stored_is_not_written(engine: Engine, outbox: Outbox) -> None:
    await engine.append("den", [draft(1, "k"), draft(2, "k"), draft(3, ephemeral=True)], KEEP_ALL)
    await engine.append("den", [draft(4, "k"), draft(5, "e", ephemeral=True)], KEEP_ALL)
    await engine.append("den", [draft(6, ephemeral=True)], KEEP_ALL)
    await engine.append("den", [], KEEP_ALL)
    assert contents_of(await waiting(outbox)) == [1]


async def test_each_way_to_append_writes_to_the_queues(engine: Engine, outbox: Outbox) -> None:
    """`append_nowait` and `append_soon` are offered by some engines only."""
    position = await engine.position("den")
    numbers = [1]
    await engine.append("den", [draft(1)], KEEP_ALL)
    position = await engine.position("den")
    if engine.append_nowait("den", draft(2), KEEP_ALL, position) is not None:
        numbers.append(2)
    done = trio.Event()

    def note(result: Receipt | EngineUnavailableError) -> None:
        assert isinstance(result, Receipt)
        done.set()

    if engine.append_soon("den", draft(3), KEEP_ALL, note):
        numbers.append(3)
        with trio.fail_after(PATIENCE_SECONDS):
            await done.wait()
    assert contents_of(await waiting(outbox)) == numbers


async def test_entries_of_a_room_have_the_order_of_its_events(engine: Engine, outbox: Outbox) -> None:
    async def append(number: int) -> None:
        await engine.append("den", [draft(number), draft(number + 100)], KEEP_ALL)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(append, number)
    offsets = [json.loads(bytes(entry.fields))["offset"] for entry in await waiting(outbox)]
    assert offsets == list(range(1, 41))


async def test_entries_are_read_in_parts(engine: Engine, outbox: Outbox, partition: str) -> None:
    await engine.append("den", [draft(number) for number in range(5)], KEEP_ALL)
    first = await outbox.read(partition, "all", limit=2)
    second = await outbox.read(partition, "all", limit=2, after=first[-1].number)
    last = await outbox.read(partition, "all", limit=2, after=second[-1].number)
    assert contents_of([*first, *second, *last]) == [0, 1, 2, 3, 4]
    assert await outbox.read(partition, "all", limit=2, after=last[-1].number) == []
    assert await outbox.read(partition, "all", limit=0) == []


async def test_removed_entries_are_gone_and_their_numbers_are_not_used_again(
    engine: Engine, outbox: Outbox, partition: str
) -> None:
    fence = await lease(outbox)
    await engine.append("den", [draft(number) for number in range(4)], KEEP_ALL)
    before = await waiting(outbox)
    await outbox.remove(partition, "all", numbers_of(before)[1:3], fence)
    assert contents_of(await waiting(outbox)) == [0, 3]
    await outbox.remove(partition, "all", [*numbers_of(before), 2**53], fence)
    assert await waiting(outbox) == []
    await outbox.remove(partition, "all", [], fence)
    await engine.append("den", [draft(9)], KEEP_ALL)
    [entry] = await waiting(outbox)
    assert entry.number > before[-1].number
    assert entry.epoch == before[0].epoch


async def test_entries_put_aside_are_listed_and_repeated_with_their_numbers(
    engine: Engine, outbox: Outbox, partition: str, wall: "Wall"
) -> None:
    fence = await lease(outbox)
    await engine.append("till", [draft(number) for number in range(4)], KEEP_ALL)
    before = await waiting(outbox)
    wall.now += 5.0
    await outbox.put_aside(partition, "all", [*numbers_of(before)[:3], 2**53], "500 from ünknown", fence)
    assert contents_of(await waiting(outbox)) == [3]
    # The other queue of the room is not touched.
    assert contents_of(await waiting(outbox, "orders")) == [0, 1, 2, 3]
    aside = await outbox.list_aside(partition, "all", limit=10)
    assert list(aside) == [AsideEntry(entry, BEGIN_MS + 5000, "500 from ünknown") for entry in before[:3]]
    assert list(await outbox.list_aside(partition, "all", limit=1, after=before[0].number)) == [aside[1]]
    assert list(await outbox.list_aside(partition, "orders", limit=10)) == []
    await outbox.remove(partition, "all", numbers_of(before), fence)
    assert len(await outbox.list_aside(partition, "all", limit=10)) == 3
    await engine.append("till", [draft(7)], KEEP_ALL)
    wall.now += 5.0
    assert await outbox.repeat(partition, "all", [before[1].number, 2**53]) == 1
    assert await outbox.repeat(partition, "all", [before[1].number]) == 0
    again = await waiting(outbox)
    assert contents_of(again) == [1, 7]
    assert (again[0].id, again[0].time_ms) == (before[1].id, BEGIN_MS)
    assert again[0].queued_ms == BEGIN_MS + 10_000
    assert await outbox.repeat(partition, "all") == 2
    assert await outbox.repeat(partition, "all") == 0
    assert contents_of(await waiting(outbox)) == [0, 1, 2, 7]


async def test_statistics_count_each_queue(
    engine: Engine, outbox: Outbox, partition: str, wall: "Wall"
) -> None:
    def of(queue: str, waiting: int, oldest_ms: int | None, aside: int) -> QueueStatistics:
        return QueueStatistics(partition, queue, waiting, oldest_ms, aside)

    assert set(await outbox.statistics()) == {of(queue.name, 0, None, 0) for queue in QUEUES}
    fence = await lease(outbox)
    await engine.append("till", [draft(1)], KEEP_ALL)
    wall.now += 2.0
    await engine.append("till", [draft(2), draft(3)], KEEP_ALL)
    [first, *_] = await waiting(outbox)
    await outbox.put_aside(partition, "all", [first.number], "gone", fence)
    assert set(await outbox.statistics()) == {
        of("all", 2, BEGIN_MS + 2000, 1),
        of("orders", 3, BEGIN_MS, 0),
        of("people", 0, None, 0),
    }


async def test_a_lease_has_one_holder_at_a_time(outbox: Outbox, partition: str) -> None:
    first = await outbox.lease(partition, "a", LONG_SECONDS)
    assert first is not None
    assert await outbox.lease(partition, "b", LONG_SECONDS) is None
    assert await outbox.lease(partition, "a", LONG_SECONDS) == first
    await outbox.release(partition, "b")
    assert await outbox.lease(partition, "b", LONG_SECONDS) is None
    await outbox.release(partition, "a")
    second = await outbox.lease(partition, "b", LONG_SECONDS)
    assert second is not None
    assert second > first


async def test_a_lease_that_is_not_extended_runs_out(outbox: Outbox, partition: str) -> None:
    first = await outbox.lease(partition, "a", 0.001)
    assert first is not None
    with trio.fail_after(PATIENCE_SECONDS):
        while (second := await outbox.lease(partition, "b", LONG_SECONDS)) is None:
            await trio.sleep(0.001)
    assert second > first
    assert await outbox.lease(partition, "a", LONG_SECONDS) is None


async def test_a_replaced_holder_changes_nothing(engine: Engine, outbox: Outbox, partition: str) -> None:
    old = await lease(outbox)
    await engine.append("den", [draft(1), draft(2)], KEEP_ALL)
    before = await waiting(outbox)
    await outbox.release(partition, "a")
    # Nobody else has it yet.
    await outbox.remove(partition, "all", [before[0].number], old)
    new = await lease(outbox, "b")
    for fence in (old, new + 1):
        with pytest.raises(FencedError):
            await outbox.remove(partition, "all", numbers_of(before), fence)
        with pytest.raises(FencedError):
            await outbox.put_aside(partition, "all", numbers_of(before), "no", fence)
    assert await waiting(outbox) == before[1:]
    assert list(await outbox.list_aside(partition, "all", limit=10)) == []
    await outbox.remove(partition, "all", numbers_of(before), new)
    assert await waiting(outbox) == []


async def test_a_reader_is_woken_by_an_entry(
    engine: Engine, outbox: Outbox, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.wait_ready()
    for module in ("local_outbox", "redis.outbox"):
        monkeypatch.setattr(f"broker.engine.{module}.POLL_SECONDS", 1e6)
    fence = await lease(outbox)
    with trio.fail_after(PATIENCE_SECONDS):
        for number in range(3):
            while not (found := await waiting(outbox)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outbox.wait_new, partition, "all")
                    await engine.append("den", [draft(number)], KEEP_ALL)
            await outbox.put_aside(partition, "all", numbers_of(found), "later", fence)
        async with trio.open_nursery() as nursery:
            assert await waiting(outbox) == []
            nursery.start_soon(outbox.wait_new, partition, "all")
            await outbox.repeat(partition, "all")
