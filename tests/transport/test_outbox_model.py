"""The outbox against a plain list of frames, on a wire that takes a little at a time, blocks and breaks."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from broker.errors import CloseCode
from broker.model import Event
from broker.notices import Notice, Pong, RoomEvent
from broker.rooms.frame import RoomFrame, Source, room_frame
from broker.transport.frames import PING, close_frame, text_frame
from broker.transport.outbox import Outbox
from broker.transport.outbox_state import Awaited, Intake
from tests.transport.wires import CODEC, FakeWire, open_outbox

EPOCH = "e"


def said(room: str, first: int, last: int, pad: int = 0) -> RoomFrame:
    """Return one batch of events as a room would offer it."""
    content = json.dumps({"type": "x", "pad": "p" * pad}).encode()
    return frame_of([RoomEvent(room, EPOCH, Event(content, 0, n)) for n in range(first, last + 1)])


def ephemeral(room: str, pad: int) -> RoomFrame:
    content = json.dumps({"type": "y", "p": "p" * pad}).encode()
    return frame_of([RoomEvent(room, EPOCH, Event(content, 0, None))])


def frame_of(events: Sequence[RoomEvent]) -> RoomFrame:
    return room_frame(CODEC.encode(events), Source(events[0].room), events)


@attrs.define(eq=False)
class Writer:
    """A task in `write`, and what became of it."""

    end: int  # where its data ends among all accepted bytes
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    outcome: str = "waiting"


@attrs.define
class Model:
    """The expected contents of the outbox, in their plainest form."""

    outbox: Outbox
    wire: FakeWire
    nursery: trio.Nursery
    limit: int
    drops: bool
    ended: list[CloseCode]
    accepted: list[bytes] = attrs.Factory(list)
    takes_more: bool = True
    is_closed: bool = False
    offsets: dict[str, int] = attrs.Factory(dict)
    refused: dict[str, list[int]] = attrs.Factory(dict)
    writers: list[Writer] = attrs.Factory(list)
    is_given_up: bool = False
    is_flush_due: bool = False
    has_dropped: bool = False

    def schedule_flush(self) -> None:
        self.is_flush_due = True

    def flush(self) -> None:
        """As the flusher does; it may also have come and gone for nothing."""
        self.is_flush_due = False
        self.outbox.flush()

    @property
    def is_dropping(self) -> bool:
        return self.outbox.statistics().intake is Intake.DROPPING

    @property
    def queued(self) -> int:
        return self.outbox.statistics().queued_bytes

    def queued_before(self, frame: bytes) -> int:
        """Return how many bytes the limit counts when a frame is judged: none is refused for the flusher's sake."""
        if not self.is_flush_due or self.queued + len(frame) <= self.limit:
            return self.queued
        self.is_flush_due = False
        return max(0, self.queued - self.wire.credit)

    def offer(self, room: str, events: int, pad: int, *, at_once: bool = False) -> None:
        if events:
            first = self.offsets.get(room, 0) + 1
            last = self.offsets[room] = first + events - 1
            frame = said(room, first, last, pad)
        else:
            frame = ephemeral(room, pad)
        queued, is_dropping = self.queued_before(frame), self.is_dropping
        taken = (self.outbox.write_or_offer if at_once else self.outbox.offer)(frame)
        if not self.takes_more or self.is_given_up:
            assert taken, "a closed outbox takes all"
        elif queued:
            assert taken is (not is_dropping and queued + len(frame) <= self.limit)
        else:
            assert taken, "when nothing waits, anything is taken"
        if taken:
            self.accept(frame)
            return
        assert self.outbox.hold(frame) == len(frame.notices)
        if frame.offsets:
            self.refused.setdefault(room, []).extend(range(first, last + 1))
        if not self.drops:
            assert CloseCode.TOO_SLOW in self.ended
            self.give_up()
        else:
            assert self.is_dropping

    def reply(self, *notices: Notice) -> None:
        frame = CODEC.encode(notices)
        queued = self.queued_before(frame)
        ended = len(self.ended)
        self.outbox.reply(*notices)
        if self.takes_more and not self.is_given_up and queued and queued + len(frame) > 2 * self.limit:
            assert self.ended[ended:] == [CloseCode.TOO_SLOW]
            self.give_up()
        else:
            self.accept(frame)

    def accept(self, frame: bytes) -> None:
        if self.takes_more and not self.is_given_up:
            self.accepted.append(frame)

    def give_up(self) -> None:
        """After the first frame refused, what comes out is a beginning of what should have: no later frame follows."""
        self.is_given_up = True

    async def write(self, data: bytes, *, is_last: bool) -> None:
        if not self.takes_more:
            with pytest.raises(trio.ClosedResourceError):
                await self.outbox.write(data, is_last=is_last)
            return
        started = trio.Event()
        writer = Writer(sum(map(len, self.accepted)) + len(data))

        async def run() -> None:
            with writer.scope:
                try:
                    started.set()
                    await self.outbox.write(data, is_last=is_last)
                    writer.outcome = "written"
                except trio.ClosedResourceError:
                    writer.outcome = "closed"
                except trio.Cancelled:
                    writer.outcome = "cancelled"
                    raise

        self.nursery.start_soon(run)
        await started.wait()
        self.is_flush_due = False
        self.accepted.append(data)
        self.takes_more = self.takes_more and not is_last
        self.writers.append(writer)

    def forget(self) -> None:
        """Everything of which the wire has seen nothing yet is dropped, frame by frame."""
        self.outbox.drop_unsent()
        self.has_dropped = True
        kept, seen = [], 0
        for frame in self.accepted:
            if seen >= len(self.wire.handed):
                for writer in self.writers:
                    if writer.end > seen:
                        writer.end = 0  # its waiting ends with its data
            else:
                kept.append(frame)
            seen += len(frame)
        self.accepted = kept

    def close(self) -> None:
        self.outbox.close()
        self.takes_more, self.is_closed = False, True

    def check(self) -> None:
        """The invariants."""
        everything = b"".join(self.accepted)
        handed = bytes(self.wire.handed)
        assert everything.startswith(handed), "bytes out are those of accepted frames, in order"
        self.check_states()
        if not self.is_closed:
            assert self.queued == len(everything) - self.wire.finished_bytes
        for writer in self.writers:
            if writer.outcome == "written":
                assert writer.end <= self.wire.finished_bytes, "write returns only when it is written"

    def check_states(self) -> None:
        """The states say what has become of the frames so far."""
        now = self.outbox.statistics()
        if self.is_closed or CloseCode.GOING_AWAY in self.ended:
            assert now.intake is Intake.CLOSED
        elif not self.takes_more:
            assert now.intake is Intake.ENDING
        elif self.is_given_up:
            assert now.intake is Intake.GIVEN_UP
        else:
            assert now.intake in {Intake.OPEN, Intake.DROPPING if self.drops else Intake.OPEN}
        if now.intake is not Intake.CLOSED:
            # A writer whose queue was dropped before its first step has yet to end.
            assert (now.awaited is Awaited.WRITER) is (now.blocked_bytes > 0) or self.has_dropped
            assert (now.awaited is Awaited.FLUSH) is self.is_flush_due
            assert now.awaited is not Awaited.NOTHING or not now.queued_bytes


Step: TypeAlias = tuple[str, Any]
SIZES = st.integers(0, 120)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.tuples(st.sampled_from("ab"), st.integers(0, 3), SIZES)),
        st.tuples(st.just("offer at once"), st.tuples(st.sampled_from("ab"), st.integers(0, 3), SIZES)),
        st.tuples(st.just("reply"), SIZES),
        st.tuples(st.just("control"), st.none()),
        st.tuples(st.just("write"), SIZES),
        st.tuples(st.just("give"), st.integers(1, 600)),
        st.tuples(st.just("give"), st.integers(1, 600)),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("settle"), st.none()),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=40,
)
ENDINGS = st.sampled_from(
    ["drain", "last", "forget", "close", "break", "cancel a writer", "cancel the writer"]
)


def messages_in(data: bytes) -> tuple[list[dict[str, Any]], int, int | None]:
    """Return the messages in what was written, the number of pings, and the close code."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    messages, pings, text, code = [], 0, "", None
    for event in client.events():
        assert code is None, "nothing follows a close frame"
        match event:
            case TextMessage():
                text += event.data
                if event.message_finished:
                    messages.append(json.loads(text))
                    text = ""
            case Ping():
                pings += 1
            case CloseConnection():
                code = int(event.code)
            case _:
                raise AssertionError(event)
    return messages, pings, code


def open_model(credit: int, limit: int, nursery: trio.Nursery, *, drops: bool) -> Model:
    """Return the model of a new outbox, whose flusher comes when the test says so."""
    wire = FakeWire(credit)
    outbox, ended = open_outbox(
        wire,
        limit,
        nursery.start_soon,
        drops=drops,
        schedule=lambda _flush: model.schedule_flush(),
    )
    model = Model(outbox, wire, nursery, limit, drops, ended)
    return model


async def settle(model: Model) -> None:
    """Let the flusher and the writers do what they can."""
    await wait_all_tasks_blocked()
    while model.is_flush_due:
        model.flush()
        await wait_all_tasks_blocked()


async def play(limit: int, credit: int, steps: list[Step], ending: str) -> None:
    async with trio.open_nursery() as nursery:
        model = open_model(credit, limit, nursery, drops=False)
        outbox = model.outbox
        for name, value in steps:
            match name:
                case "offer" | "offer at once":
                    model.offer(*value, at_once=name == "offer at once")
                case "reply":
                    model.reply(Pong("p" * value))
                case "control":
                    outbox.put_control(PING)
                    model.accept(PING)
                case "write":
                    await model.write(text_frame(json.dumps({"w": "w" * value}).encode()), is_last=False)
                case "give":
                    model.wire.give(value)
                case "flush":
                    model.flush()
                case "settle":
                    await wait_all_tasks_blocked()
            model.check()
        await END[ending](model)
        model.check()
        nursery.cancel_scope.cancel()


@example(limit=1, credit=0, steps=[("reply", 0), ("offer", ("a", 0, 0))], ending="forget")
@given(st.integers(1, 400), st.integers(0, 300), STEPS, ENDINGS)
@settings(max_examples=250)
def test_bytes_out_are_the_accepted_frames_in_order(
    limit: int, credit: int, steps: list[Step], ending: str
) -> None:
    trio.run(play, limit, credit, steps, ending)


async def end_drained(model: Model) -> None:
    model.wire.give(1 << 30)
    await settle(model)
    if not model.is_closed:
        assert bytes(model.wire.handed) == b"".join(model.accepted)
        assert model.queued == 0
        assert {writer.outcome for writer in model.writers} <= {"written", "cancelled"}
        messages_in(bytes(model.wire.handed))


async def end_with_last(model: Model) -> None:
    await model.write(close_frame(CloseCode.NORMAL, "bye"), is_last=True)
    model.offer("a", 1, 10)
    model.reply(Pong("late"))
    model.outbox.put_control(PING)
    await end_drained(model)
    assert messages_in(bytes(model.wire.handed))[2] == CloseCode.NORMAL


async def end_with_forgetting(model: Model) -> None:
    """As it is when a slow reader is closed: what waits is dropped, and the close frame comes through whole."""
    model.forget()
    await wait_all_tasks_blocked()  # a writer that has not begun finds nothing to write
    model.check()
    await model.write(close_frame(CloseCode.TOO_SLOW, "slow"), is_last=True)
    await end_drained(model)
    assert messages_in(bytes(model.wire.handed))[2] == CloseCode.TOO_SLOW


async def end_closed(model: Model) -> None:
    model.close()
    handed = len(model.wire.handed)
    model.offer("a", 1, 10)
    model.outbox.reply(Pong("late"))
    model.outbox.put_control(PING)
    model.wire.give(1 << 30)
    await settle(model)
    assert len(model.wire.handed) == handed, "after close nothing is written"
    assert all(writer.outcome != "waiting" for writer in model.writers)
    with pytest.raises(trio.ClosedResourceError):
        await model.outbox.write(b"late")


async def end_broken(model: Model) -> None:
    model.wire.break_down()
    model.outbox.put_control(PING)
    await settle(model)
    assert model.is_given_up or model.ended[-1] == CloseCode.GOING_AWAY
    assert all(writer.outcome != "waiting" for writer in model.writers)
    model.is_closed, model.takes_more = True, False
    model.accepted = [bytes(model.wire.handed)]
    handed = len(model.wire.handed)
    model.offer("a", 1, 10)
    with pytest.raises(trio.ClosedResourceError):
        await model.outbox.write(b"late")
    assert len(model.wire.handed) == handed


async def end_after_cancelling_a_write(model: Model) -> None:
    for writer in model.writers:
        writer.scope.cancel()
    await settle(model)
    assert all(writer.outcome in {"written", "cancelled"} for writer in model.writers)
    await end_drained(model)


async def end_without_writer(model: Model) -> None:
    """As it is when a connection is cancelled: nobody writes any more, and nothing hangs or raises."""
    model.nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()
        model.close()
        model.offer("a", 1, 10)
        handed = len(model.wire.handed)
        model.wire.give(1 << 30)
        await settle(model)
    assert len(model.wire.handed) == handed
    assert all(writer.outcome != "waiting" for writer in model.writers)


END = {
    "drain": end_drained,
    "last": end_with_last,
    "forget": end_with_forgetting,
    "close": end_closed,
    "break": end_broken,
    "cancel a writer": end_after_cancelling_a_write,
    "cancel the writer": end_without_writer,
}


async def play_dropping(limit: int, credit: int, steps: list[Step]) -> None:
    async with trio.open_nursery() as nursery:
        model = open_model(credit, limit, nursery, drops=True)
        wire = model.wire
        for name, value in steps:
            match name:
                case "offer" | "offer at once":
                    model.offer(*value, at_once=name == "offer at once")
                case "give":
                    wire.give(value)
                case "flush":
                    model.flush()
                case "settle":
                    await wait_all_tasks_blocked()
        # Nothing further is said: what was dropped is told all the same.
        wire.give(1 << 30)
        await settle(model)
        assert not model.ended
        assert not model.is_dropping
        heard: dict[str, int] = {}
        missed: dict[str, list[int]] = {}
        for message in messages_in(bytes(wire.handed))[0]:
            if "offset" not in message and message["type"] != "gap":
                continue
            room, is_gap = message["room"], message["type"] == "gap"
            first, last = (message["from"], message["to"]) if is_gap else (message["offset"],) * 2
            assert first == heard.get(room, 0) + 1, "each offset is heard of in its turn, once"
            heard[room] = last
            if is_gap:
                missed.setdefault(room, []).extend(range(first, last + 1))
        assert heard == model.offsets
        assert missed == model.refused


DROP_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["offer", "offer at once"]),
            st.tuples(st.sampled_from("abc"), st.integers(0, 3), SIZES),
        ),
        st.tuples(st.just("give"), st.integers(1, 900)),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=60,
)


@given(st.integers(250, 900), st.integers(0, 300), DROP_STEPS)
@settings(max_examples=250)
def test_what_is_dropped_is_told_of_exactly_and_before_anything_later(
    limit: int, credit: int, steps: list[Step]
) -> None:
    trio.run(play_dropping, limit, credit, steps)


@given(st.integers(1, 400), st.integers(0, 300), st.booleans(), STEPS)
def test_a_write_at_once_is_an_offer_that_is_flushed_at_once(
    limit: int, credit: int, drops: bool, steps: list[Step]
) -> None:
    """At every moment, in all that anybody can see: bytes, refusals, what waits, how the connection ends."""
    assert trio.run(tell_story, limit, credit, drops, steps, True) == trio.run(
        tell_story, limit, credit, drops, steps, False
    )


async def tell_story(limit: int, credit: int, drops: bool, steps: list[Step], at_once: bool) -> list[Any]:
    seen: list[Any] = []
    async with trio.open_nursery() as nursery:
        wire = FakeWire(credit)
        outbox, ended = open_outbox(wire, limit, nursery.start_soon, drops=drops)
        offer = outbox.write_or_offer if at_once else outbox.offer
        for number, (name, value) in enumerate(steps):
            match name:
                case "offer" | "offer at once":
                    room, events, pad = value
                    frame = said(room, number, number + events, pad)
                    if not (taken := offer(frame)):
                        outbox.hold(frame)
                    seen.append(taken)
                case "reply":
                    outbox.reply(Pong("p" * value))
                case "control":
                    outbox.put_control(PING)
                case "write":
                    await wait_all_tasks_blocked()  # trio starts tasks in any order
                    nursery.start_soon(write_or_end, outbox, b"w" * value)
                    await wait_all_tasks_blocked()
                case "give":
                    wire.give(value)
                case "flush":
                    outbox.flush()
                case "settle":
                    await wait_all_tasks_blocked()
            seen.append((bytes(wire.handed), outbox.statistics(), list(ended)))
        wire.give(1 << 30)
        await wait_all_tasks_blocked()
        seen.append((bytes(wire.handed), outbox.statistics(), list(ended)))
        nursery.cancel_scope.cancel()
    return seen


async def write_or_end(outbox: Outbox, data: bytes) -> None:
    with suppress(trio.ClosedResourceError):
        await outbox.write(data)
