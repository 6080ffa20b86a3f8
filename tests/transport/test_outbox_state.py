"""An outbox does what the tables of its states say, in each state, for each step and each kind of frame."""

from collections.abc import Callable
from contextlib import suppress

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.notices import Pong
from broker.transport.outbox import Outbox
from broker.transport.outbox_state import NEXT_INTAKE, Awaited, Fate, Intake, Step
from tests.support.members import framed
from tests.transport.wires import CODEC, FakeWire, open_outbox

LIMIT_BYTES = 100
WAITING = b"x" * 60
TOO_MUCH = b"r" * 41


@attrs.define
class Stage:
    """A blocked outbox: the wire has taken nothing, and a frame is being written."""

    nursery: trio.Nursery
    drops: bool
    wire: FakeWire = attrs.Factory(lambda: FakeWire(0))
    outbox: Outbox = attrs.field(init=False)
    ended: list[CloseCode] = attrs.field(init=False)

    async def open(self) -> None:
        self.outbox, self.ended = open_outbox(
            self.wire, LIMIT_BYTES, self.nursery.start_soon, drops=self.drops
        )
        assert self.outbox.offer(framed(WAITING))
        await wait_all_tasks_blocked()

    @property
    def intake(self) -> Intake:
        return self.outbox.statistics().intake

    async def take(self, step: Step) -> None:
        """Do that to the outbox which is such a step."""
        outbox = self.outbox
        match step:
            case Step.DROP:
                if self.intake is Intake.OPEN:
                    assert not outbox.offer(framed(TOO_MUCH))
                outbox.hold(framed(TOO_MUCH, 1, 1))
            case Step.CATCH_UP:
                self.wire.give(LIMIT_BYTES)
                await wait_all_tasks_blocked()
            case Step.GIVE_UP if self.drops:
                outbox.reply(Pong("p" * 2 * LIMIT_BYTES))
            case Step.GIVE_UP:
                assert not outbox.offer(framed(TOO_MUCH))
                outbox.hold(framed(TOO_MUCH, 1, 1))
            case Step.END:
                self.nursery.start_soon(self.write_last)
            case Step.CLOSE:
                outbox.close()
        # A task starts, and does not get far: the wire is full.
        await wait_all_tasks_blocked()

    async def write_last(self) -> None:
        with suppress(trio.ClosedResourceError):
            await self.outbox.write(b"last", is_last=True)


WAYS: dict[Intake, list[Step]] = {
    Intake.OPEN: [],
    Intake.DROPPING: [Step.DROP],
    Intake.GIVEN_UP: [Step.GIVE_UP],
    Intake.ENDING: [Step.END],
    Intake.CLOSED: [Step.CLOSE],
}
STEPS = [(intake, step) for intake, row in NEXT_INTAKE.items() for step in row]


async def stage_in(nursery: trio.Nursery, intake: Intake, step: Step | None = None) -> Stage:
    way = WAYS[intake]
    stage = Stage(nursery, drops=Step.DROP in [*way, step])
    await stage.open()
    for each in way:
        await stage.take(each)
    assert stage.intake is intake
    return stage


def test_there_is_a_row_for_each_state() -> None:
    assert set(NEXT_INTAKE) == set(Intake) == set(WAYS)


@pytest.mark.parametrize(("intake", "step"), STEPS)
async def test_each_step_leads_where_the_table_says(intake: Intake, step: Step) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            stage = await stage_in(nursery, intake, step)
            try:
                await stage.take(step)
            finally:
                after = stage.intake
                scope.cancel()
    assert after is NEXT_INTAKE[intake][step]


@pytest.mark.parametrize("intake", Intake)
@pytest.mark.parametrize("kind", ["events", "replies", "writes"])
async def test_each_frame_meets_its_fate(intake: Intake, kind: str) -> None:
    fate: Fate = getattr(intake, kind)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            stage = await stage_in(nursery, intake)
            before = stage.outbox.statistics().queued_bytes
            frame, is_refused = b"", False
            match kind:
                case "events":
                    frame = b"e"
                    is_refused = not stage.outbox.offer(framed(frame))
                case "replies":
                    frame = CODEC.encode([Pong("p")])
                    stage.outbox.reply(Pong("p"))
                    stage.outbox.put_control(b"c")
                    frame += b"c"
                case "writes":
                    frame = b"w"
                    if fate is Fate.QUEUED:
                        nursery.start_soon(stage.outbox.write, frame)
                        await wait_all_tasks_blocked()
                    else:
                        with pytest.raises(trio.ClosedResourceError):
                            await stage.outbox.write(frame)
                        is_refused = True
            grown = stage.outbox.statistics().queued_bytes - before
            scope.cancel()
    assert is_refused is (fate is Fate.REFUSED)
    assert grown == (len(frame) if fate is Fate.QUEUED else 0)


REACH: dict[Awaited, Callable[[Outbox, FakeWire], object]] = {
    Awaited.NOTHING: lambda _outbox, _wire: None,
    Awaited.FLUSH: lambda outbox, _wire: outbox.offer(framed(b"f")),
    Awaited.WRITER: lambda outbox, _wire: (outbox.offer(framed(b"w")), outbox.flush()),
}


@pytest.mark.parametrize("awaited", Awaited)
@pytest.mark.parametrize("frame", ["event", "event at once", "reply", "control"])
def test_a_frame_is_scheduled_where_nothing_waits(awaited: Awaited, frame: str) -> None:
    scheduled: list[Callable[[], int]] = []
    wire = FakeWire(0)
    outbox, _ = open_outbox(wire, LIMIT_BYTES, lambda _write: None, schedule=scheduled.append)
    REACH[awaited](outbox, wire)
    assert outbox.statistics().awaited is awaited
    scheduled.clear()
    match frame:
        case "event":
            outbox.offer(framed(b"x"))
        case "event at once":
            outbox.write_or_offer(framed(b"x"))
        case "reply":
            outbox.reply(Pong())
        case _:
            outbox.put_control(b"x")
    # The wire takes nothing, so a frame that is tried at once is left to the writer.
    after = Awaited.WRITER if frame == "event at once" else Awaited.FLUSH
    assert outbox.statistics().awaited is (after if awaited is Awaited.NOTHING else awaited)
    assert bool(scheduled) is (awaited is Awaited.NOTHING and frame != "event at once")


@pytest.mark.parametrize("credit", [0, 1, 1000])
@pytest.mark.parametrize("awaited", [Awaited.NOTHING, Awaited.FLUSH])
def test_a_flush_ends_in_nothing_or_in_the_writer(awaited: Awaited, credit: int) -> None:
    wire = FakeWire(0)
    outbox, _ = open_outbox(wire, LIMIT_BYTES, lambda _write: None, schedule=lambda _flush: None)
    REACH[awaited](outbox, wire)
    outbox.put_control(b"") if awaited is Awaited.NOTHING else outbox.offer(framed(b"more"))
    wire.give(credit)
    outbox.flush()
    left = outbox.statistics().queued_bytes
    assert outbox.statistics().awaited is (Awaited.WRITER if left else Awaited.NOTHING)
