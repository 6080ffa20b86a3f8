"""Joins and leaves of rooms with code."""

import msgspec
import pytest
from trio.testing import MockClock

from broker.config.settings import RoomRule, Settings
from broker.room_actors import Member, Refusal, RoomActor, call
from broker.room_actors.turn import Turn
from broker.testing import World, open_test_broker


class Guests(msgspec.Struct):
    joined: list[str] = []
    left: list[str] = []


class House(RoomActor[Guests], pattern="house.*"):
    async def on_join(self, member: Member) -> None:
        if member.user_id == "eve":
            raise Refusal("not on the list")
        if member.user_id == "mallory":
            raise RuntimeError("a fault in the application")
        self.state.joined.append(member.user_id)
        self.say({"type": "welcome", "to": member.user_id})
        self.say({"type": "secret", "info": member.info}, to=member)

    async def on_leave(self, member: Member) -> None:
        self.state.left.append(member.user_id)
        if member.user_id == "oscar":
            raise RuntimeError("a fault in the application")

    @call
    async def tell(self, sender: Member | None, how: tuple[list[str], list[str] | None]) -> None:
        """Say something to all but some, or to some but others; `ann/1` is the second connection of ann."""
        but, to = how
        self.say({"type": "told"}, but=self.find(but), to=None if to is None else self.find(to))

    def find(self, names: list[str]) -> list[Member | str]:
        return [
            self.connections(name)[int(at)] if at else name
            for name, _, at in (each.partition("/") for each in names)
        ]

    def connections(self, user_id: str) -> list[Member]:
        return [member for member in self.members if member.user_id == user_id]

    @call
    async def present(self, sender: Member | None) -> list[str]:
        return [member.user_id for member in self.members]


@pytest.fixture
def greenroom_rooms() -> list[type[House]]:
    return [House]


async def test_who_joins_hears_what_its_join_has_led_to(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    ben = await world.join("house.1", user="ben", info={"name": "Ben"})
    assert [each["to"] for each in ann.of_type("welcome")] == ["ann", "ben"]
    assert [each["to"] for each in ben.of_type("welcome")] == ["ben"]
    assert ben.heard[0]["type"] == "joined"
    assert [each["info"] for each in ben.of_type("secret")] == [{"name": "Ben"}]
    assert [each["info"] for each in ann.of_type("secret")] == [None]
    assert await ann.call("present") == ["ann", "ben"]


async def test_a_refused_join_says_why_and_leaves_no_trace(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    with pytest.raises(ConnectionError, match="4003 not on the list"):
        await world.join("house.1", user="eve")
    assert await world.state("house.1") == {"joined": ["ann"], "left": []}
    assert await ann.call("present") == ["ann"]


async def test_a_join_whose_turn_fails_is_no_join(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    with pytest.raises(ConnectionError, match="1011"):
        await world.join("house.1", user="mallory")
    assert await ann.call("present") == ["ann"]
    assert await world.state("house.1") == {"joined": ["ann"], "left": []}


async def test_a_join_while_the_engine_is_away_is_no_join(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    with world.engine_unavailable(), pytest.raises(ConnectionError, match="1013"):
        await world.join("house.1", user="ben")
    assert await ann.call("present") == ["ann"]
    assert await world.state("house.1") == {"joined": ["ann"], "left": []}


async def test_leaves_and_lost_connections_are_turns(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    ben = await world.join("house.1", user="ben")
    cat = await world.join("house.1", user="cat")
    await ben.leave()
    await cat.drop()
    await world.pass_time(1)
    assert (await world.state("house.1"))["left"] == ["ben", "cat"]
    assert await ann.call("present") == ["ann"]


async def test_a_leave_whose_turn_fails_is_a_leave_all_the_same(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    oscar = await world.join("house.1", user="oscar")
    await oscar.leave()
    await world.pass_time(1)
    assert await ann.call("present") == ["ann"]
    assert (await world.state("house.1"))["left"] == []


async def test_a_join_with_history_hears_each_event_once(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    await ann.chat("before")
    ben = await world.join("lobby", user="ben")
    joined = await ben.ask(type="join", room="house.1", last=10)
    since = {"offset": joined["offset"], "epoch": joined["epoch"]}
    texts = [(each["type"], each.get("to")) for each in joined["messages"]]
    assert texts == [("welcome", "ann"), ("chat", None)]
    assert [each["to"] for each in ben.of_type("welcome")] == ["ben"]
    await ben.ask(type="leave", room="house.1")
    await ann.chat("between")
    again = await ben.ask(type="join", room="house.1", since=since)
    assert again["recovered"] is True
    assert [each["type"] for each in again["messages"]] == ["welcome", "chat"]
    assert [each["to"] for each in ben.of_type("welcome")] == ["ben", "ben"]


async def test_a_full_room_refuses_before_its_code_is_asked(autojump_clock: MockClock) -> None:
    settings = Settings(rooms=(RoomRule(pattern="house.*", max_members=1),))
    async with open_test_broker([House], settings=settings) as world:
        await world.join("house.1", user="ann")
        with pytest.raises(ConnectionError, match="4129"):
            await world.join("house.1", user="ben")
        assert await world.state("house.1") == {"joined": ["ann"], "left": []}


async def test_a_second_join_of_a_member_is_no_turn(world: World) -> None:
    ann = await world.join("house.1", user="ann")
    await ann.ask(type="join", room="house.1")
    assert (await world.state("house.1"))["joined"] == ["ann"]


@pytest.mark.parametrize(
    ("but", "to", "told"),
    [
        ([], None, {"ann/0", "ann/1", "ben/0", "cat/0"}),
        (["ann"], None, {"ben/0", "cat/0"}),
        (["ann/1"], None, {"ann/0", "ben/0", "cat/0"}),
        (["ann", "ben"], None, {"cat/0"}),
        (["ann/0", "ann/1"], None, {"ben/0", "cat/0"}),
        (["ann/0", "ben"], None, {"ann/1", "cat/0"}),
        (["ann/0", "cat/0", "ben", "nobody"], None, {"ann/1"}),
        (["ann", "ben", "cat"], None, set()),
        (["ann/0", "ben"], ["ann", "ben"], {"ann/1"}),
        (["ann"], [], set()),
    ],
)
async def test_a_room_says_something_to_all_but_some(
    autojump_clock: MockClock, but: list[str], to: list[str] | None, told: set[str]
) -> None:
    async with open_test_broker([House]) as world:
        visitors = {
            name: await world.join("house.1", user=name.partition("/")[0])
            for name in ("ann/0", "ann/1", "ben/0", "cat/0")
        }
        await world.call("house.1", "tell", [but, to])
        assert {name for name, visitor in visitors.items() if visitor.of_type("told")} == told
        if to is not None:
            return
        # What is stored says whom it is kept from, by user also in later connections, and leaves no hole in the offsets.
        users = {name.partition("/")[0] for name in visitors} - {name for name in but if "/" not in name}
        for user in ("ann", "ben", "cat", "dan"):
            late = await world.join("lobby", user=user)
            joined = await late.ask(type="join", room="house.1", last=100)
            is_told = any(each["type"] == "told" for each in joined["messages"])
            assert is_told == (user in {*users, "dan"})
            kept = [each for each in joined["messages"] if each["type"] == "withheld"]
            assert len(kept) == (0 if is_told else 1)


@pytest.mark.parametrize(
    ("but", "reason"),
    [
        ([f"user {number}" for number in range(257)], "at most 256"),
        (["x" * 129], "but: "),
        ([""], "but: "),
        (["half of a pair \ud800"], "but: "),
    ],
)
def test_a_message_for_all_but_wrong_ones_is_a_fault_of_the_code(but: list[str], reason: str) -> None:
    turn = Turn(0, 0.0)
    with pytest.raises(ValueError, match=reason):
        turn.say({"type": "told"}, but=but, to=None, ephemeral=False, tags=None)
    assert not turn.drafts
