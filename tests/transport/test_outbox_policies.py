"""One outbox in rooms with different policies: each room gets what its own promises, on a wire that takes a little at a time."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.model import Event, EventHeader
from broker.notices import Pong, RoomEvent
from broker.rooms.frame import RoomFrame, SlowReader, Source, room_frame
from broker.transport.outbox import Outbox
from tests.transport.test_outbox_model import messages_in
from tests.transport.wires import CODEC, FakeWire, open_outbox

POLICIES: dict[str, SlowReader | None] = {"dropping": "drop", "latest": "latest", "strict": None}
"""The connection itself has the policy "disconnect"."""

Step: TypeAlias = tuple[str, Any]

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("offer"),
            st.tuples(
                st.sampled_from(sorted(POLICIES)),
                st.lists(st.sampled_from("klm"), min_size=1, max_size=3),
                st.integers(0, 120),
                st.booleans(),
            ),
        ),
        st.tuples(st.just("give"), st.integers(1, 900)),
        st.tuples(st.just("reply"), st.just(None)),
        st.tuples(st.just("release"), st.sampled_from(sorted(POLICIES))),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=60,
)


@attrs.define
class Rooms:
    """The rooms, each with its last offset and the offset of the newest event of each key."""

    offsets: dict[str, int] = attrs.Factory(lambda: dict.fromkeys(POLICIES, 0))
    newest: dict[tuple[str, str], int] = attrs.Factory(dict)
    lost: int = 0

    def frame(self, room: str, keys: Sequence[str], pad: int) -> RoomFrame:
        events: list[RoomEvent] = []
        for key in keys:
            self.offsets[room] += 1
            self.newest[room, key] = self.offsets[room]
            content = json.dumps({"type": "x", "pad": "p" * pad}).encode()
            event = Event(content, 0, self.offsets[room], EventHeader("x", tags=(("key", key),)))
            events.append(RoomEvent(room, "e", event))
        return room_frame(CODEC.encode(events), Source(room, POLICIES[room]), events)

    def offer(self, outbox: Outbox, room: str, keys: Sequence[str], pad: int, is_at_once: bool) -> None:
        frame = self.frame(room, keys, pad)
        if not (outbox.write_or_offer if is_at_once else outbox.offer)(frame):
            self.lost += outbox.hold(frame)


async def play(limit: int, credit: int, steps: list[Step]) -> None:
    rooms, wire = Rooms(), FakeWire(credit)
    async with trio.open_nursery() as nursery:
        outbox, ended = open_outbox(wire, limit, nursery.start_soon)
        for name, value in steps:
            match name:
                case "offer":
                    rooms.offer(outbox, *value)
                case "give":
                    wire.give(value)
                case "reply":
                    outbox.reply(Pong("x"))
                case "release":
                    outbox.release(value)
                case "settle":
                    await wait_all_tasks_blocked()
            if not ended:
                # What is held back joins what waits once half of the limit is free; an answer may come on top.
                assert outbox.statistics().queued_bytes <= 3 * limit
        wire.give(1 << 30)
        outbox.flush()
        await wait_all_tasks_blocked()
        check(rooms, messages_in(bytes(wire.handed))[0], ended)
        nursery.cancel_scope.cancel()


def check(rooms: Rooms, messages: list[dict[str, Any]], ended: list[CloseCode]) -> None:
    heard: dict[str, list[int]] = {room: [] for room in POLICIES}
    told = dict.fromkeys(POLICIES, 0)
    for message in messages:
        if message["type"] == "pong":
            continue
        room, is_gap = message["room"], message["type"] == "gap"
        first, last = (message["from"], message["to"]) if is_gap else (message["offset"],) * 2
        assert first == told[room] + 1, "each offset is told in its turn, once"
        told[room] = last
        assert not is_gap or POLICIES[room] is not None
        if not is_gap:
            heard[room].append(last)
    if ended:
        assert ended == [CloseCode.TOO_SLOW]
        return
    assert told == rooms.offsets
    assert rooms.lost == sum(rooms.offsets.values()) - sum(map(len, heard.values()))
    assert all(offset in heard[room] for (room, _), offset in rooms.newest.items() if room == "latest")


@given(st.integers(1100, 2000), st.integers(0, 300), STEPS)
@settings(max_examples=100)
def test_each_room_gets_what_its_policy_promises(limit: int, credit: int, steps: list[Step]) -> None:
    trio.run(play, limit, credit, steps)


async def test_alike_events_are_sent_once_the_peer_reads_and_no_earlier_one_of_them(
    nursery: trio.Nursery,
) -> None:
    wire, rooms = FakeWire(0), Rooms()
    outbox, ended = open_outbox(wire, 1 << 20, nursery.start_soon)
    for _ in range(10_000):
        rooms.offer(outbox, "latest", "kl", 50, is_at_once=False)
    assert outbox.statistics().queued_bytes < 1000, "whatever the limit"
    wire.give(1 << 30)
    await wait_all_tasks_blocked()
    told = [(m["type"], m.get("offset", m.get("to"))) for m in messages_in(bytes(wire.handed))[0]]
    assert told == [("x", 1), ("x", 2), ("gap", 19_998), ("x", 19_999), ("x", 20_000)]
    assert (rooms.lost, ended) == (19_996, [])
    nursery.cancel_scope.cancel()
