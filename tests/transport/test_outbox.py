"""The outbox on a wire that takes a little at a time, blocks and breaks."""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.notices import Pong
from broker.transport.frames import PING, close_frame, text_frame
from broker.transport.outbox import OutboxStatistics
from broker.transport.outbox_state import Awaited, Intake
from broker.transport.queued_frames import CHUNK_BYTES
from tests.support.members import framed
from tests.transport.wires import CODEC, FakeWire, open_outbox


async def test_frames_go_straight_to_a_wire_that_takes_them(nursery: trio.Nursery) -> None:
    wire = FakeWire(1 << 30)
    outbox, _ = open_outbox(wire, 100, lambda _write: pytest.fail("nothing waits, so nobody is to write"))
    assert outbox.offer(framed(b"one"))
    assert outbox.offer(framed(b"far more than the limit" * 100))
    outbox.reply(Pong("x"))
    await outbox.write(b"two")
    assert (
        bytes(wire.handed) == b"one" + b"far more than the limit" * 100 + CODEC.encode([Pong("x")]) + b"two"
    )
    assert outbox.codec is CODEC


async def test_the_limit_is_kept_to_the_byte(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, ended = open_outbox(wire, 100, nursery.start_soon)
    assert outbox.offer(framed(b"x" * 60))
    assert outbox.offer(framed(b"x" * 40))
    assert not outbox.offer(framed(b"x"))
    pong = CODEC.encode([Pong("")])
    for _ in range(100 // len(pong)):
        outbox.reply(Pong(""))
    assert ended == []
    assert outbox.statistics().queued_bytes <= 200
    outbox.reply(Pong("p" * 20))
    assert ended == [CloseCode.TOO_SLOW]
    nursery.cancel_scope.cancel()


async def test_a_frame_larger_than_the_limit_waits_alone(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, ended = open_outbox(wire, 100, nursery.start_soon)
    assert outbox.offer(framed(b"x" * 1000))
    assert not outbox.offer(framed(b"y"))
    outbox.hold(framed(b"z", 2, 2))
    assert ended == [CloseCode.TOO_SLOW]
    nursery.cancel_scope.cancel()


async def test_waiting_frames_are_written_in_chunks(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, _ = open_outbox(wire, 1 << 20, nursery.start_soon)
    for _ in range(100):
        assert outbox.offer(framed(b"x" * 1000))
    await wait_all_tasks_blocked()
    assert CHUNK_BYTES - 1000 <= len(wire.handed) <= CHUNK_BYTES
    # So that a close frame need not wait for all of it.
    outbox.drop_unsent()
    assert outbox.statistics().queued_bytes == len(wire.handed)
    nursery.cancel_scope.cancel()


async def test_waiting_until_no_more_waits_than_events_may(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, _ = open_outbox(wire, 100, nursery.start_soon)
    outbox.offer(framed(b"x" * 100))
    await outbox.wait_space()
    outbox.put_control(b"y")
    has_space = trio.Event()

    async def wait() -> None:
        await outbox.wait_space()
        has_space.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not has_space.is_set()
    wire.give(101)
    with trio.fail_after(60):
        await has_space.wait()
    outbox.offer(framed(b"z" * 1000))
    nursery.start_soon(outbox.wait_space)
    await wait_all_tasks_blocked()
    outbox.close()
    with trio.fail_after(60):
        await outbox.wait_space()


async def test_the_writer_ends_with_the_queue(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    started: list[Callable[[], Awaitable[None]]] = []

    def start(write: Callable[[], Awaitable[None]]) -> None:
        started.append(write)
        nursery.start_soon(write)

    outbox, _ = open_outbox(wire, 1000, start)
    for turn in range(1, 4):
        outbox.offer(framed(b"abc"))
        outbox.offer(framed(b"def"))
        assert len(started) == turn, "one writer for all that waits"
        wire.give(6)
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
    assert bytes(wire.handed) == b"abcdef" * 3


async def test_a_write_that_finds_the_peer_gone_closes_the_outbox_for_good(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, ended = open_outbox(wire, 1000, nursery.start_soon)
    wire.break_down()
    with pytest.raises(trio.ClosedResourceError):
        await outbox.write(b"x")
    assert ended == [CloseCode.GOING_AWAY]
    assert outbox.offer(framed(b"x"))
    outbox.put_control(PING)
    assert ended == [CloseCode.GOING_AWAY], "it has been said"
    with pytest.raises(trio.ClosedResourceError):
        await outbox.write(b"x")


async def test_a_frame_that_was_begun_is_not_dropped(nursery: trio.Nursery) -> None:
    # The writer has not had its first turn when a full outbox ends the connection.
    wire = FakeWire(3)
    outbox, _ = open_outbox(wire, 1000, nursery.start_soon)
    assert outbox.offer(framed(text_frame(b"begun")))
    assert outbox.offer(framed(text_frame(b"waiting")))
    outbox.drop_unsent()
    wire.give(1000)
    await outbox.write(close_frame(CloseCode.TOO_SLOW, ""), is_last=True)
    assert bytes(wire.handed) == text_frame(b"begun") + close_frame(CloseCode.TOO_SLOW, "")


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_write_dropped_by_a_close_is_not_taken_for_written(
    nursery: trio.Nursery, is_begun: bool
) -> None:
    outbox, _ = open_outbox(FakeWire(3 if is_begun else 0), 1000, lambda _write: None)
    outcomes: list[str] = []

    async def write() -> None:
        try:
            await outbox.write(b"dropped")
            outcomes.append("written")
        except trio.ClosedResourceError:
            outcomes.append("closed")

    nursery.start_soon(write)
    await wait_all_tasks_blocked()
    outbox.close()
    await wait_all_tasks_blocked()
    assert outcomes == ["closed"]
    assert outbox.statistics().queued_bytes == 0


async def test_what_is_being_written_is_not_done_because_the_rest_was_dropped(
    nursery: trio.Nursery,
) -> None:
    wire = FakeWire(0)
    outbox, _ = open_outbox(wire, 1000, nursery.start_soon)
    done: list[bytes] = []

    async def write(data: bytes) -> None:
        await outbox.write(data)
        done.append(data)

    nursery.start_soon(write, b"first")
    await wait_all_tasks_blocked()
    nursery.start_soon(write, b"second, longer")
    await wait_all_tasks_blocked()
    outbox.drop_unsent()
    await wait_all_tasks_blocked()
    assert done == []
    wire.give(5)
    await wait_all_tasks_blocked()
    assert sorted(done) == [b"first", b"second, longer"], "nobody waits for what is dropped"
    assert bytes(wire.handed) == b"first"


async def test_a_reply_too_many_does_not_cost_a_close_frame_that_waits(nursery: trio.Nursery) -> None:
    wire = FakeWire(0)
    outbox, ended = open_outbox(wire, 10, nursery.start_soon)
    outbox.put_control(b"being written")
    await wait_all_tasks_blocked()
    nursery.start_soon(partial(outbox.write, close_frame(CloseCode.TOKEN_EXPIRED, "expired"), is_last=True))
    await wait_all_tasks_blocked()
    for _ in range(10):
        outbox.reply(Pong("late"))
    wire.give(1000)
    await wait_all_tasks_blocked()
    assert bytes(wire.handed) == b"being written" + close_frame(CloseCode.TOKEN_EXPIRED, "expired")
    assert ended == []


class CountingWire(FakeWire):
    """Counts its writes."""

    def __init__(self) -> None:
        super().__init__(1 << 30)
        self.writes = 0

    def write_nowait(self, data: bytes | memoryview) -> int:
        self.writes += 1
        return super().write_nowait(data)


@attrs.define
class Flushes:
    """Stands where the flusher would."""

    scheduled: list[Callable[[], int]] = attrs.Factory(list)

    def schedule(self, flush: Callable[[], int]) -> None:
        self.scheduled.append(flush)

    def come(self) -> None:
        for flush in self.scheduled:
            flush()
        self.scheduled.clear()


def test_what_is_said_in_one_turn_is_one_write() -> None:
    wire, flushes = CountingWire(), Flushes()
    outbox, _ = open_outbox(wire, 1000, pytest.fail, schedule=flushes.schedule)
    for frame in (b"one", b"two", b"three"):
        assert outbox.offer(framed(frame))
    outbox.reply(Pong("x"))
    assert (len(flushes.scheduled), wire.writes) == (1, 0)
    flushes.come()
    assert (bytes(wire.handed), wire.writes) == (b"onetwothree" + CODEC.encode([Pong("x")]), 1)
    outbox.put_control(PING)
    assert len(flushes.scheduled) == 1, "and it is scheduled anew"


def test_a_frame_is_written_at_once_unless_it_would_overtake() -> None:
    wire, flushes = CountingWire(), Flushes()
    outbox, _ = open_outbox(wire, 1000, pytest.fail, schedule=flushes.schedule)
    outbox.write_or_offer(framed(b"one"))
    assert (bytes(wire.handed), wire.writes, len(flushes.scheduled)) == (b"one", 1, 0)
    outbox.offer(framed(b"two"))
    outbox.write_or_offer(framed(b"three"))
    assert (bytes(wire.handed), wire.writes) == (b"one", 1)
    flushes.come()
    assert (bytes(wire.handed), wire.writes) == (b"onetwothree", 2)


def test_no_more_waits_for_the_flusher_than_the_limit_and_a_chunk() -> None:
    for limit in (100, 1 << 20):
        wire, flushes = CountingWire(), Flushes()
        outbox, _ = open_outbox(wire, limit, pytest.fail, schedule=flushes.schedule)
        for _ in range(10_000):
            assert outbox.offer(framed(b"x" * 50))
            outbox.reply(Pong("y"))
            assert outbox.statistics().queued_bytes <= min(limit, CHUNK_BYTES)
        assert len(flushes.scheduled) < wire.writes + 2, "it stands in the flusher's queue once"


async def test_only_what_the_kernel_did_not_take_waits_for_the_peer(nursery: trio.Nursery) -> None:
    wire, flushes = FakeWire(100), Flushes()
    outbox, _ = open_outbox(wire, 1000, nursery.start_soon, schedule=flushes.schedule)
    outbox.offer(framed(b"x" * 150))
    assert outbox.statistics() == OutboxStatistics(150, 0, Intake.OPEN, Awaited.FLUSH)
    flushes.come()
    assert outbox.statistics() == OutboxStatistics(50, 50, Intake.OPEN, Awaited.WRITER)
    nursery.cancel_scope.cancel()


async def test_what_a_close_has_dropped_was_not_written() -> None:
    outbox, _ = open_outbox(FakeWire(0), 1000, pytest.fail, schedule=Flushes().schedule)
    assert await outbox.wait_written()
    outbox.offer(framed(b"x"))
    outbox.close()
    assert not await outbox.wait_written()


def test_an_error_that_no_wire_should_have_ends_the_connection_once() -> None:
    class Poisoned(FakeWire):
        def write_nowait(self, data: bytes | memoryview) -> int:
            raise ZeroDivisionError("a fault of ours")

    errors: list[Exception] = []
    outbox, _ = open_outbox(Poisoned(1), 1000, pytest.fail, fail=errors.append)
    for _ in range(3):
        assert outbox.offer(framed(b"x"))
        outbox.reply(Pong("x"))
    assert [type(error) for error in errors] == [ZeroDivisionError]
    at_once, _ = open_outbox(Poisoned(1), 1000, pytest.fail, fail=errors.append)
    for _ in range(3):
        assert at_once.write_or_offer(framed(b"x"))
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2
