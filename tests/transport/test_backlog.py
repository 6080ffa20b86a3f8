"""The limit of what waits in all outboxes: the slowest readers go first, each by the policy of its rooms."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.http.api.sse import EventOutbox, SseCodec
from broker.rooms.tally import Tally
from broker.sessions.backlog import SPARE_SHARE, Backlog
from broker.transport.outbox import NOTED_BYTES, Outbox
from tests.support.members import framed
from tests.transport.test_outbox_model import messages_in
from tests.transport.test_outbox_policies import POLICIES, Rooms
from tests.transport.wires import FakeWire, open_outbox

LIMIT_BYTES = 40_000
OUTBOX_BYTES = 25_000
READERS = 4

Step: TypeAlias = tuple[str, int, Any]


@attrs.define
class Reader:
    """A peer with an outbox of its own in rooms of its own."""

    wire: FakeWire
    outbox: Outbox
    ended: list[CloseCode]
    rooms: Rooms = attrs.Factory(Rooms)


@attrs.define
class Stage:
    """Readers that share a backlog, which is relieved behind each step as behind a turn."""

    nursery: trio.Nursery
    due: list[Callable[[], int]] = attrs.Factory(list)
    tally: Tally = attrs.Factory(Tally)
    backlog: Backlog = attrs.field(init=False)
    readers: list[Reader] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.backlog = Backlog(LIMIT_BYTES, self.due.append)

    def add(self, credit: int = 0) -> Reader:
        wire = FakeWire(credit)
        outbox, ended = open_outbox(
            wire, OUTBOX_BYTES, self.nursery.start_soon, tally=self.tally, backlog=self.backlog
        )
        self.readers.append(Reader(wire, outbox, ended))
        return self.readers[-1]

    def end_turn(self) -> None:
        for relieve in self.due:
            relieve()
        self.due.clear()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["offer"] * 6 + ["give", "settle", "close"]),
        st.integers(0, READERS - 1),
        st.tuples(
            st.sampled_from(sorted(POLICIES)),
            st.lists(st.sampled_from("klm"), min_size=1, max_size=3),
            st.integers(0, 3000),
            st.booleans(),
        ),
    ),
    max_size=60,
)


async def play(steps: list[Step]) -> None:
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)
        for _ in range(READERS):
            stage.add()
        for name, at, (room, keys, pad, is_at_once) in steps:
            reader = stage.readers[at]
            match name:
                case "offer" if not reader.ended:
                    reader.rooms.offer(reader.outbox, room, keys, pad, is_at_once)
                case "give":
                    reader.wire.give(3 * pad)
                case "settle":
                    await wait_all_tasks_blocked()
                case "close":
                    reader.outbox.close()
                    reader.ended.append(CloseCode.NORMAL)
            stage.end_turn()
            # A chunk on its way, and what relief has set aside, is all that may remain above.
            waiting = [each.outbox.statistics().blocked_bytes for each in stage.readers if not each.ended]
            assert stage.backlog.total_bytes >= sum(size for size in waiting if size >= NOTED_BYTES)
        for reader in stage.readers:
            reader.wire.give(1 << 30)
            reader.outbox.flush()
        await wait_all_tasks_blocked()
        assert stage.backlog.total_bytes == 0, "all is written, or gone with its connection"
        for reader in stage.readers:
            if not reader.ended:
                check_order(reader)
        nursery.cancel_scope.cancel()


def check_order(reader: Reader) -> None:
    """Each offset is told of once and in order, if by a gap."""
    told = dict.fromkeys(POLICIES, 0)
    for message in messages_in(bytes(reader.wire.handed))[0]:
        room, is_gap = message["room"], message["type"] == "gap"
        first, last = (message["from"], message["to"]) if is_gap else (message["offset"],) * 2
        assert first == told[room] + 1
        told[room] = last
        assert not is_gap or POLICIES[room] is not None
    assert told == reader.rooms.offsets


@given(STEPS)
@settings(max_examples=100)
def test_under_pressure_each_room_gets_what_its_policy_promises(steps: list[Step]) -> None:
    trio.run(play, steps)


async def test_the_slowest_go_first_until_an_eighth_is_free(nursery: trio.Nursery) -> None:
    stage = Stage(nursery)
    sizes = [14_000, 5000, 13_000, 7000]
    for size in sizes:
        reader = stage.add()
        assert reader.outbox.offer(framed(b"x" * size, 1, room="strict"))
        stage.end_turn()
    assert stage.backlog.total_bytes == sum(sizes) == LIMIT_BYTES - 1000
    assert [reader.ended for reader in stage.readers] == [[], [], [], []]
    assert stage.readers[1].outbox.offer(framed(b"x" * 2000, 2, room="strict"))
    stage.end_turn()
    assert [reader.ended for reader in stage.readers] == [[CloseCode.TOO_SLOW], [], [], []]
    assert stage.backlog.total_bytes == 7000 + 13_000 + 7000 <= LIMIT_BYTES - LIMIT_BYTES // SPARE_SHARE
    assert stage.backlog.relieved == {"closed": 1}
    nursery.cancel_scope.cancel()


async def test_events_of_rooms_that_drop_are_dropped_and_told_of(nursery: trio.Nursery) -> None:
    stage = Stage(nursery)
    reader, other = stage.add(), stage.add()
    for _ in range(10):
        reader.rooms.offer(reader.outbox, "dropping", "k", 600, is_at_once=False)
    lost_before = reader.rooms.lost
    other.rooms.offer(other.outbox, "strict", "k", 40_000, is_at_once=False)
    stage.end_turn()
    assert (reader.ended, other.ended) == ([], [CloseCode.TOO_SLOW])
    for _ in range(12):
        third = stage.add()
        third.rooms.offer(third.outbox, "latest", "k", 4500, is_at_once=False)
        stage.end_turn()
    assert stage.backlog.relieved["dropped"] >= 1
    assert stage.tally.deliveries_lost > 0
    assert lost_before == 0
    for each in stage.readers:
        each.wire.give(1 << 30)
    await wait_all_tasks_blocked()
    assert reader.ended == []
    check_order(reader)
    assert stage.backlog.total_bytes == 0


async def test_an_event_stream_is_relieved_like_a_websocket() -> None:
    due: list[Callable[[], int]] = []
    backlog, tally, ended = Backlog(1000, due.append), Tally(), list[int]()
    outboxes: list[EventOutbox] = []

    def close(number: int, _code: CloseCode, _reason: str) -> None:
        ended.append(number)
        outboxes[number].close(b"bye", drop=True)

    for number in range(2):
        disconnect = partial(close, number)
        outboxes.append(
            EventOutbox(SseCodec(), limit_bytes=1 << 20, disconnect=disconnect, tally=tally, backlog=backlog)
        )
    for offset in range(1, 5):
        assert outboxes[0].offer(framed(b"x" * 200, offset, slow_reader="drop"))
    assert outboxes[1].offer(framed(b"y" * 500, 1))
    due.pop()()
    assert (ended, backlog.relieved, backlog.total_bytes) == ([], {"dropped": 1}, 500)
    assert tally.deliveries_lost == 4
    assert b'"gap"' in await outboxes[0].next_chunk(1)
    assert outboxes[0].offer(framed(b"x" * 450, 5))
    assert outboxes[1].offer(framed(b"y" * 100, 2))
    due.pop()()
    assert (ended, backlog.total_bytes) == ([1], 450 + len(b"bye"))
    outboxes[1].abandon()
    assert backlog.total_bytes == 450
