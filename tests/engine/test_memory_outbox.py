"""The bound of the outbox in memory, and how its reader is woken."""

import trio
import trio.testing

from broker.engine.age_clock import Moment
from broker.engine.memory_outbox import ENTRY_BYTES, PARTITION, MemoryOutbox
from broker.engine.outbox import Kind, Queue, write_message_entry
from broker.model import Event, Position

QUEUE = Queue("q", frozenset(Kind))


def opened(queue_bytes: int = 1 << 20) -> MemoryOutbox:
    return MemoryOutbox([QUEUE], epoch="e", now=lambda: Moment(0, 0), queue_bytes=queue_bytes)


def write(outbox: MemoryOutbox, offset: int) -> None:
    write_message_entry(outbox, [QUEUE], "den", Position("e", offset), Event(b"{}", 0, offset))


async def test_a_full_queue_drops_its_oldest_entries_and_counts_them() -> None:
    one = ENTRY_BYTES + len('{"offset":1,"epoch":"e","content":{}}')
    outbox = opened(3 * one)
    for offset in range(1, 6):
        write(outbox, offset)
    assert [entry.number for entry in await outbox.read(PARTITION, "q", limit=9)] == [3, 4, 5]
    fence = await outbox.lease(PARTITION, "a", 1.0)
    assert fence is not None
    await outbox.put_aside(PARTITION, "q", [3, 4, 5], "no", fence)
    for offset in range(6, 9):
        write(outbox, offset)
    await outbox.put_aside(PARTITION, "q", [6], "no", fence)
    assert [each.entry.number for each in await outbox.list_aside(PARTITION, "q", limit=9)] == [4, 5, 6]
    [statistics] = await outbox.statistics()
    assert (statistics.waiting, statistics.aside, statistics.dropped) == (2, 3, 3)
    assert await outbox.repeat(PARTITION, "q") == 3
    [statistics] = await outbox.statistics()
    assert (statistics.waiting, statistics.aside, statistics.dropped) == (3, 0, 5)


async def test_a_reader_waits_for_an_entry_and_not_much_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outbox = opened()
    write(outbox, 1)
    begin = trio.current_time()
    await outbox.wait_new(PARTITION, "q")
    assert trio.current_time() == begin
    assert len(await outbox.read(PARTITION, "q", limit=9)) == 1
    await outbox.wait_new(PARTITION, "q")
    assert trio.current_time() == begin + 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait_new, PARTITION, "q")
        await trio.testing.wait_all_tasks_blocked()
        write(outbox, 2)
    assert trio.current_time() == begin + 1.0
