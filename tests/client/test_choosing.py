"""Filters, tags and events without echo in the Python client, which keeps its position behind what it does not get."""

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.client import NotSentError, Position
from broker.client.track import RoomTrack
from tests.client.test_client import next_of, open_world, texts_of


async def test_a_room_with_a_filter_recovers_what_matches_and_nothing_else(
    open_node: Any, autojump_clock: MockClock
) -> None:
    async with open_world(open_node) as world:
        ann = await world.node.member("ann", "lobby")
        number = 0

        async def say(*kinds: str) -> None:
            nonlocal number
            for kind in kinds:
                number += 1
                await ann.send(type="chat", text=str(number), tags={"kind": kind})
            await ann.settle()

        async with (
            world.client("bob") as client,
            client.join("lobby", tags={"kind": ["goal", "card"]}) as room,
        ):
            await say("goal", "other", "other", "card")
            assert await texts_of(room, 2) == ["1", "4"]
            await say(*["other"] * 30)
            await trio.sleep(2)
            assert room.position.offset == 34, "behind events that are not for it, without an event"
            for expected in ("36", "39", "42"):
                await world.cut()
                await say("other", "goal", "other")
                assert (await next_of(room, "joined"))["recovered"] is True
                assert await texts_of(room, 1) == [expected]
            await say("card")
            assert await texts_of(room, 1) == ["44"]
            # Nothing had to be asked for again, but for the three lost connections.
            assert len(world.lines) == 4
            history = await room.history(since=Position(room.position.epoch, 40))
            assert [message["type"] for message in history.messages] == [
                "withheld",
                "chat",
                "withheld",
                "chat",
            ]
        async with (
            world.client("cas") as client,
            client.join("lobby", last=2, tags={"kind": ["goal"]}) as room,
        ):
            assert await texts_of(room, 2) == ["39", "42"]


async def test_an_event_without_echo_comes_to_all_others(open_node: Any, autojump_clock: MockClock) -> None:
    async with (
        open_world(open_node) as world,
        world.client() as client,
        world.client("bob") as other,
        client.join("lobby") as room,
        other.join("lobby") as theirs,
    ):
        assert (await room.chat("1", echo=False)).offset == 1
        await room.publish("e", 2, echo=False, tags={"kind": "goal"})
        await room.publish_ephemeral("typing", True, echo=False)
        await room.chat("3")
        assert await texts_of(room, 1) == ["3"]
        assert await texts_of(theirs, 1) == ["1"]
        heard = [await next_of(theirs, "event") for _ in range(2)]
        assert [(event["event"], event.get("tags")) for event in heard] == [
            ("e", {"kind": "goal"}),
            ("typing", None),
        ]
        assert await texts_of(theirs, 1) == ["3"]
        assert room.position == theirs.position
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("tags", [{"kind": "goal"}, ["kind"], "kind", {"kind": None}, {"kind": [b"x"]}])
async def test_a_filter_that_is_none_is_refused_to_its_caller(
    open_node: Any, autojump_clock: MockClock, tags: Any
) -> None:
    async with open_world(open_node) as world, world.client() as client:
        with pytest.raises(NotSentError):
            async with client.join("lobby", tags=tags):
                pass


steps = st.lists(
    st.tuples(st.sampled_from(["event", "withheld", "merged", "read", "lose", "late"]), st.integers(1, 3)),
    max_size=40,
)


@attrs.define
class Model:
    """A server that tells a track of all offsets in turn."""

    track: RoomTrack
    offset: int = 0
    read: list[int] = attrs.Factory(list)
    expected: list[int] = attrs.Factory(list)
    missed: list[dict[str, Any]] = attrs.Factory(list)

    def message(self, kind: str, count: int) -> dict[str, Any]:
        first = self.offset + 1
        self.offset += count if kind == "merged" else 1
        if kind == "event":
            self.expected.append(self.offset)
            return {"type": "chat", "room": "a", "offset": self.offset, "epoch": "e"}
        return {"type": "withheld", "room": "a", "from": first, "offset": self.offset, "epoch": "e"}

    def join(self) -> None:
        asked = self.track.begin_join("id")
        since = asked["since"]["offset"] if "since" in asked else 0
        messages = [message for message in self.missed if message["offset"] > since]
        joined = {"type": "joined", "room": "a", "offset": self.offset, "epoch": "e", "recovered": True}
        self.track.receive_joined({**joined, "messages": messages}, 10)

    def take(self) -> None:
        message = self.track.next_message()
        if message is not None and message["type"] == "chat":
            self.read.append(message["offset"])


@given(steps)
def test_a_track_has_each_event_once_and_passes_what_is_withheld(steps: list[tuple[str, int]]) -> None:
    model = Model(RoomTrack("a", 1 << 20, Position("e", 0)))
    model.join()
    for kind, count in steps:
        if kind == "read":
            model.take()
        elif kind == "lose":
            model.track.disconnected()
            model.join()
        elif kind == "late":
            # A notice of what was withheld before the join, as the members with the same filter get it.
            first = max(1, model.offset - count)
            late = {"type": "withheld", "room": "a", "from": first, "offset": model.offset, "epoch": "e"}
            model.track.receive(late, 10)
        else:
            message = model.message(kind, count)
            model.missed.append(message)
            model.track.receive(message, 10)
        assert not model.track.is_behind
        assert model.track.position == Position("e", model.offset)
    while model.track.waiting_bytes:
        model.take()
    assert model.read == model.expected
    assert model.track.taken == model.track.position


def test_a_hole_before_what_is_withheld_is_no_more_passed_over_than_one_before_an_event() -> None:
    model = Model(RoomTrack("a", 1 << 20, Position("e", 0)))
    model.join()
    model.message("event", 1)
    model.track.receive(model.message("merged", 3), 10)
    assert model.track.is_behind


class EarlierTrack(RoomTrack):
    """As of a client that knows nothing of `withheld`: to it, it is an event of an unknown type."""

    def receive(self, message: dict[str, Any], size: int) -> None:
        """Handle a message as one of a service."""
        super().receive({**message, "type": "unknown"} if message["type"] == "withheld" else message, size)


@given(st.lists(st.sampled_from(["event", "withheld"]), max_size=20))
def test_an_earlier_client_that_is_excluded_sees_no_hole(kinds: list[str]) -> None:
    model = Model(EarlierTrack("a", 1 << 20, Position("e", 0)))
    model.join()
    for kind in kinds:
        model.track.receive(model.message(kind, 1), 10)
        assert not model.track.is_behind
    for _ in range(len(kinds) + 1):
        model.take()
    assert model.read == model.expected
