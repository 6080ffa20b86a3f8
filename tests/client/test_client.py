"""The client against a whole node in memory, on virtual time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.client import (
    Client,
    ClientError,
    ClosedError,
    ConnectionLostError,
    MemberConnection,
    NotSentError,
    Position,
    RefusedError,
    RemovedError,
    Room,
    State,
    connect,
)
from broker.model import Draft
from broker.testing.line import Line

ROOM_BYTES = 2000


class NoJitter(Random):
    """Draws the longest delay."""

    def uniform(self, a: float, b: float) -> float:
        return b


@attrs.define(eq=False)
class World:
    """A node, and connections to it that can be cut."""

    node: Any
    lines: list[Line] = attrs.Factory(list)
    states: list[State] = attrs.Factory(list)
    is_reachable: bool = True

    async def dial(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.is_reachable:
            raise OSError("nobody there")
        self.lines.append(self.node.connect())
        return self.lines[-1].client_end

    def client(
        self, user: str = "ann", *, token: Callable[[], Awaitable[str]] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Client]:
        return connect(
            "ws://example.org",
            token=token or self.node.token(user),
            dial=self.dial,
            random=NoJitter(),
            on_state=self.states.append,
            **options,
        )

    async def cut(self) -> None:
        """Break the present connection, as a network does."""
        await trio.aclose_forcefully(self.lines[-1].client_end)

    async def say(self, room: str, text: str) -> None:
        """Say something as somebody else."""
        client = await self.node.member("bob", room)
        await client.ask(type="chat", text=text, room=room, id=text)
        await client.aclose()
        await wait_all_tasks_blocked()

    def kinds(self) -> list[str]:
        return [state.kind for state in self.states]


@pytest.fixture
async def world(open_node, autojump_clock: MockClock) -> AsyncIterator[World]:
    async with open_world(open_node) as world:
        yield world


@asynccontextmanager
async def open_world(open_node, **sections: Any) -> AsyncIterator[World]:
    with trio.fail_after(10_000):
        async with open_node(**sections) as node:
            yield World(node)


async def next_of(room: Room, kind: str) -> dict[str, Any]:
    async for message in room:
        if message["type"] == kind:
            return message
    raise AssertionError


async def texts_of(room: Room, count: int) -> list[str]:
    return [(await next_of(room, "chat"))["text"] for _ in range(count)]


@pytest.mark.parametrize("is_offered", [True, False])
async def test_messages_are_compressed_where_both_sides_want_it(open_node, autojump_clock, is_offered):
    websocket = {"compression": True, "compression_min_bytes": 1}
    text = "again and again, " * 20
    async with open_world(open_node, websocket=websocket) as world:
        async with world.client(compression=is_offered) as client, client.join("lobby") as room:
            await room.chat(text)
            assert await texts_of(room, 1) == [text]
            await world.say("lobby", "short")
            assert await texts_of(room, 1) == ["short"]
        tally = world.node.services.deflate.tally
        assert tally.connections == is_offered
        assert (tally.plain_bytes > len(text)) == is_offered


async def test_an_offer_that_is_declined_changes_nothing(world):
    async with world.client(compression=True) as client, client.join("lobby") as room:
        await room.chat("hello")
        assert await texts_of(room, 1) == ["hello"]
    assert world.node.services.deflate.tally.connections == 0


async def test_a_room_is_joined_heard_and_spoken_in(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        assert room.joined["room_size"] == 1
        position = await room.chat("hello")
        kinds = [await anext(room) for _ in range(3)]
        assert [message["type"] for message in kinds] == ["joined", "user_joined", "chat"]
        assert room.position == position == Position(kinds[2]["epoch"], 1)
        assert (await room.publish("moved", {"x": 1})).offset == 2
        assert (await anext(room))["data"] == {"x": 1}
        await room.publish_ephemeral("typing", True)
        assert "offset" not in await anext(room)
        presence = await room.presence()
        assert (presence.room_size, presence.users) == (1, {"ann": 1})
        await room.set_state({"typing": True})
        told = await anext(room)
        assert (told["type"], told["state"]) == ("presence_update", {"typing": True})
        assert await room.connections() == [
            MemberConnection("ann", room.joined["connection"], None, {"typing": True})
        ]
        history = await room.history(limit=1, reverse=True)
        assert [message["type"] for message in history.messages] == ["event"]
        assert history.position == Position(position.epoch, 2)
        rest = await room.history(since=position)
        assert rest.messages == history.messages


@pytest.mark.parametrize("name", [b"lobby", 5, None, ["lobby"], 1.5])
async def test_a_name_that_is_no_text_is_refused_to_its_caller(world, name, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        with pytest.raises(NotSentError, match=r"^room: a text"):
            async with client.join(name):
                pass
        assert await room.chat("still here")


async def test_many_rooms_share_one_connection(world, autojump_clock):
    async with world.client() as client, client.join("a") as a, client.join("b") as b:
        await a.chat("to a")
        await b.chat("to b")
        assert await texts_of(b, 1) == ["to b"]
        assert await texts_of(a, 1) == ["to a"]
        assert len(world.lines) == 1
        assert client.statistics().rooms == 2
        with pytest.raises(ValueError, match="already"):
            async with client.join("a"):
                pass


async def test_leaving_the_block_leaves_the_room_and_then_the_server(world, autojump_clock):
    async with world.client() as client:
        async with client.join("lobby"):
            assert len(world.node.connections) == 1
        async with client.join("lobby") as room:
            assert room.joined["room_size"] == 1, "the first stay is over"
        started = trio.current_time()
    assert trio.current_time() == started, "the server answered the close"
    await wait_all_tasks_blocked()
    assert world.node.is_empty()


async def test_a_cancelled_program_closes_properly_too(world, autojump_clock):
    with trio.CancelScope() as scope:
        async with world.client() as client, client.join("lobby"):
            started = trio.current_time()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert trio.current_time() == started
    await wait_all_tasks_blocked()
    assert world.node.is_empty()


async def test_a_server_that_does_not_answer_the_close_is_left_after_a_second(world, autojump_clock):
    async with world.client() as client, client.join("lobby"):
        world.lines[-1].stop_reading()
        started = trio.current_time()
    assert trio.current_time() - started == 1.0


async def test_what_was_missed_comes_in_order_and_once(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await room.chat("one")
        assert await texts_of(room, 1) == ["one"]
        world.is_reachable = False
        await world.cut()
        await world.say("lobby", "two")
        await world.say("lobby", "three")
        world.is_reachable = True
        assert (await next_of(room, "joined"))["recovered"] is True
        assert await texts_of(room, 2) == ["two", "three"]
        await room.chat("four")
        assert await texts_of(room, 1) == ["four"]
    assert world.kinds() == ["connecting", "connected", "waiting", *["connecting", "connected"]]


async def test_what_cannot_be_recovered_is_told(open_node, autojump_clock):
    async with (
        open_world(open_node, history={"messages": 0}) as world,
        world.client() as client,
        client.join("lobby") as room,
    ):
        await next_of(room, "joined")
        await world.cut()
        await world.say("lobby", "lost")
        await world.say("lobby", "lost too")
        assert (await next_of(room, "joined"))["recovered"] is False
        await room.chat("after")
        assert await texts_of(room, 1) == ["after"]


async def test_a_send_over_a_lost_connection_is_said_once(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room, trio.open_nursery() as nursery:
        world.is_reachable = False
        await world.cut()
        positions: list[Position] = []

        async def say(text: str) -> None:
            positions.append(await room.chat(text))

        for number in range(100):
            nursery.start_soon(say, f"{number}")
            await wait_all_tasks_blocked()
        assert client.statistics().requests_waiting == 64, "the others wait for their turn"
        world.is_reachable = True
        texts = await texts_of(room, 100)
        assert texts == [f"{number}" for number in range(100)]


async def test_an_ephemeral_send_that_was_under_way_is_not_repeated(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await next_of(room, "user_joined")
        world.lines[-1].stop_reading()

        async def hint() -> None:
            with pytest.raises(ConnectionLostError):
                await room.publish_ephemeral("typing", True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hint)
            await wait_all_tasks_blocked()
            await world.cut()


async def test_a_token_that_ran_out_as_there_was_no_other_is_replaced(world, autojump_clock):
    asked: list[str] = []

    async def token() -> str:
        if world.kinds()[-1] == "connected":
            raise OSError("no other token now")
        asked.append(world.node.token("ann", ttl_seconds=60))
        if len(asked) == 2:
            raise OSError("the issuer is away")
        return asked[-1]

    async with world.client(token=token) as client, client.join("lobby") as room:
        await next_of(room, "joined")
        assert (await next_of(room, "joined"))["recovered"] is True
        assert len(asked) == 3
        causes = [(state.cause.code, state.cause.reason) for state in world.states if state.kind == "waiting"]
        assert causes == [(4101, "token expired"), (1006, "no token: the issuer is away")]


async def test_another_exception_of_the_token_ends_the_client_and_can_be_seen(world, autojump_clock):
    async def token() -> str:
        raise RuntimeError("a mistake")

    async with world.client(token=token) as client:
        with pytest.raises(ClosedError, match="a mistake") as closed:
            async with client.join("lobby"):
                pass
        assert isinstance(closed.value.__cause__, RuntimeError)
        assert client.state.kind == "closed"


async def test_an_exception_of_the_application_s_observer_comes_out(world, autojump_clock):
    def observe(state: State) -> None:
        raise KeyError(state.kind)

    connecting = connect("ws://example.org", token="t", dial=world.dial, on_state=observe)
    with pytest.raises(KeyError, match="connecting"):
        async with connecting as client, client.join("lobby"):
            pass


async def test_40xx_ends_it_for_good(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await next_of(room, "user_joined")
        world.node.connections.disconnect_user("ann", 4004, "removed by the application")
        with pytest.raises(ClosedError) as closed:
            await anext(room)
        assert closed.value.code == 4004
        with pytest.raises(ClosedError):
            await room.chat("hello")
        with pytest.raises(ClosedError):
            async with client.join("other"):
                pass
        assert len(world.lines) == 1


async def test_a_bad_token_is_told_where_one_waits(world, autojump_clock):
    async def token() -> str:
        return "nonsense"

    async with world.client(token=token) as client:
        with pytest.raises(ClosedError) as closed:
            async with client.join("lobby"):
                pass
        assert closed.value.code == 4001


async def test_a_join_that_came_too_soon_is_tried_again(open_node, autojump_clock):
    limits = {"messages_per_second": 1, "messages_burst": 1}
    async with (
        open_world(open_node, limits=limits) as world,
        world.client() as client,
        client.join("a"),
        client.join("b") as b,
    ):
        assert b.joined["room"] == "b"
        assert world.kinds() == ["connecting", "connected"]


async def test_what_comes_too_fast_is_said_when_the_server_takes_it(open_node, autojump_clock):
    limits = {"messages_per_second": 5, "messages_burst": 5, "refused_burst": 2}
    async with (
        open_world(open_node, limits=limits) as world,
        world.client() as client,
        client.join("lobby") as room,
    ):
        started = trio.current_time()
        positions = [await room.chat(f"{number}") for number in range(50)]
        assert [position.offset for position in positions] == list(range(1, 51))
        assert await texts_of(room, 50) == [f"{number}" for number in range(50)]
        assert trio.current_time() - started < 30
        assert (await room.presence()).room_size == 1
        assert (await room.history(limit=1)).position.offset == 50
        await room.publish_ephemeral("typing", True)
        assert world.kinds() == ["connecting", "connected"], "it was not sent away for pressing on"
    await wait_all_tasks_blocked()
    assert world.node.is_empty()


async def test_what_is_said_at_once_and_too_fast_is_said_once_and_in_order(open_node, autojump_clock):
    limits = {"messages_per_second": 5, "messages_burst": 5}
    async with (
        open_world(open_node, limits=limits) as world,
        world.client() as client,
        client.join("lobby") as room,
    ):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(room.chat, f"{number}")
                await wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await room.chat("never mind")
        assert await texts_of(room, 50) == [f"{number}" for number in range(50)]
        assert (await room.chat("next")).offset == 51
        assert world.kinds() == ["connecting", "connected"]


async def test_leaving_too_fast_leaves_all_the_same(open_node, autojump_clock):
    limits = {"messages_per_second": 1, "messages_burst": 3}
    async with open_world(open_node, limits=limits) as world, world.client() as client:
        async with client.join("lobby") as room:
            await room.chat("one")
            await room.chat("two")
        async with client.join("other"):
            await trio.sleep(10)
            other = await world.node.member("bob", "lobby")
            presence = await other.ask(type="presence", room="lobby", id=1)
            assert [user["user_id"] for user in presence["users"]] == ["bob"]


async def test_a_room_that_is_forbidden_is_told_and_others_go_on(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        with pytest.raises(RefusedError) as refused:
            async with client.join("user_bob"):
                pass
        assert refused.value.code == "forbidden"
        assert (await room.chat("still here")).offset == 1


async def test_being_removed_from_a_room_ends_that_room_only(world, autojump_clock):
    async with world.client() as client, client.join("a") as a, client.join("b") as b:
        await next_of(a, "user_joined")
        await world.node.rooms.remove("a", "ann")
        with pytest.raises(RemovedError):
            await anext(a)
        with pytest.raises(RemovedError):
            await a.chat("hello")
        await b.chat("hello")


async def test_a_refused_request_is_told(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        with pytest.raises(RefusedError, match="event") as refused:
            await room.publish("", 1)
        assert refused.value.code == "invalid_message"


async def test_it_comes_back_when_the_server_said(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await next_of(room, "user_joined")
        (connection,) = world.node.connections
        started = trio.current_time()
        connection.send_reconnect(7000)
        await wait_all_tasks_blocked()
        await room.chat("until then all goes on")
        connection.disconnect(1012, "service restart")
        await next_of(room, "joined")
        assert trio.current_time() - started == pytest.approx(7.0, abs=0.1)


async def test_a_server_that_forgets_to_close_is_left(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await next_of(room, "user_joined")
        (connection,) = world.node.connections
        started = trio.current_time()
        connection.send_reconnect(7000)
        await next_of(room, "joined")
        assert 12.0 <= trio.current_time() - started <= 14.0


async def test_attempts_are_spread_further_and_further(world, autojump_clock):
    world.is_reachable = False
    async with world.client():
        await trio.sleep(500)
    delays = [state.retry_seconds for state in world.states if state.kind == "waiting"]
    assert delays[:4] == [1, 2, 4, 5]
    downs = [sum(delays[:index]) for index in range(len(delays))]
    # None is longer than 5 s or a quarter of the outage, as far as attempts and waits go by the same clock.
    assert delays[3:] == [max(5, min(30, down / 4)) for down in downs[3:]]
    assert max(delays) == 30
    assert "nobody there" in str(world.states[1].cause)


async def test_a_silent_server_is_left(open_node, autojump_clock):
    """The server is there but never answers: no byte comes, not even a pong."""
    async with (
        open_world(open_node, websocket={"ping_seconds": 10_000}) as world,
        world.client() as client,
        client.join("lobby") as room,
    ):
        await next_of(room, "user_joined")
        await trio.sleep(1000)
        assert len(world.lines) == 1, "pinged, and answered"
        world.lines[-1].stop_reading()
        started = trio.current_time()
        assert (await next_of(room, "joined"))["recovered"]
        assert trio.current_time() - started <= 60
        assert "silent" in str(next(state.cause for state in world.states if state.cause))


async def test_a_cancelled_receive_loses_nothing(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        await room.chat("one")
        await room.chat("two")
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(room)
        assert scope.cancelled_caught
        with trio.move_on_after(0):
            async for message in room:
                assert message["type"] == "joined"
        assert await texts_of(room, 2) == ["one", "two"]


async def test_a_cancelled_send_is_forgotten(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        world.is_reachable = False
        await world.cut()
        with trio.move_on_after(5):
            await room.chat("never mind")
        assert client.statistics().requests_waiting == 0
        world.is_reachable = True
        await room.chat("this one")
        assert await texts_of(room, 1) == ["this one"]


async def test_who_takes_nothing_costs_no_memory_and_misses_nothing(world, autojump_clock):
    async with world.client(room_bytes=ROOM_BYTES) as client, client.join("lobby") as room:
        speaker = await world.node.member("bob", "lobby")
        for number in range(150):
            await speaker.ask(type="chat", text=f"{number}", room="lobby", id=number)
        await wait_all_tasks_blocked()
        assert client.statistics().bytes_waiting <= ROOM_BYTES
        assert await texts_of(room, 150) == [f"{number}" for number in range(150)]
        assert (await room.chat("and I can speak")).offset == 151


async def test_an_exception_of_the_block_comes_out_as_it_is(world, autojump_clock):
    with pytest.raises(KeyError, match="mine"):
        async with world.client() as client, client.join("lobby"):
            raise KeyError("mine")
    with pytest.RaisesGroup(KeyError, match="mine"):
        async with world.client():
            raise ExceptionGroup("mine", [KeyError("a")])


async def test_without_reconnects_the_first_loss_is_the_last(world, autojump_clock):
    world.is_reachable = False
    async with world.client(reconnects=False) as client:
        with pytest.raises(ClosedError, match="nobody there"):
            async with client.join("lobby"):
                pass


async def test_an_id_of_ones_own_is_said_once(world, autojump_clock):
    async with world.client() as client, client.join("lobby") as room:
        first = await room.chat("paid", id="order-5")
        assert await room.chat("paid", id="order-5") == first
        assert await texts_of(room, 1) == ["paid"]
        assert (await room.chat("next")).offset == 2


async def test_a_position_kept_elsewhere_is_gone_on_from(world, autojump_clock):
    await world.say("lobby", "one")
    async with world.client() as client:
        async with client.join("lobby") as room:
            kept = room.joined
        await world.say("lobby", "two")
        async with client.join("lobby", since=Position(kept["epoch"], 0)) as room:
            assert (await anext(room))["recovered"] is True
            assert room.position == Position(kept["epoch"], 0), "nothing of it taken yet"
            assert await texts_of(room, 2) == ["one", "two"]
            assert room.position == Position(kept["epoch"], 2)


async def test_a_message_that_is_too_big_fails_and_does_not_come_back_for_ever(open_node, autojump_clock):
    async with (
        open_world(open_node, websocket={"message_bytes": 500}) as world,
        world.client() as client,
        client.join("lobby") as room,
    ):
        with pytest.raises(RefusedError, match="too big"):
            await room.chat("x" * 600)
        assert (await room.chat("small")).offset == 1


async def test_a_room_that_was_left_says_so(world, autojump_clock):
    async with world.client() as client:
        async with client.join("lobby") as room:
            pass
        with pytest.raises(ClientError, match="left lobby"):
            await anext(room)
        with pytest.raises(RemovedError):
            await room.chat("hello")


POISON = ["1e400", '"\\ud800"', "1" * 5000, "[" * 50_000 + "]" * 50_000]


async def say_unread(world: World, *contents: str, ephemeral: bool = False) -> None:
    """Let the room hold events as a server let them in that asked for less."""
    for content in contents:
        await world.node.rooms.publish("lobby", Draft(content.encode(), ephemeral))


def gap_of(message: dict[str, Any]) -> tuple[str, int, int]:
    return (message["type"], message["from"], message["to"])


@pytest.mark.parametrize("data", POISON, ids=lambda data: data[:8])
async def test_a_message_that_cannot_be_read_is_a_gap_and_the_room_goes_on(world, autojump_clock, data):
    bad = f'{{"type":"event","event":"e","user_id":"eve","data":{data}}}'
    async with world.client() as client, client.join("lobby") as room:
        await room.chat("1")
        await say_unread(world, bad, bad)
        await say_unread(world, bad, ephemeral=True)
        await room.chat("4")
        assert (await next_of(room, "chat"))["text"] == "1"
        assert [gap_of(await anext(room)) for _ in range(2)] == [("gap", 2, 2), ("gap", 3, 3)]
        assert (await anext(room))["text"] == "4"
        assert room.position.offset == 4
        page = await room.history()
        assert [message["type"] for message in page.messages] == ["chat", "gap", "gap", "chat"]
        # The same when it was missed.
        await world.cut()
        await say_unread(world, bad)
        await world.say("lobby", "6")
        assert (await next_of(room, "joined"))["recovered"]
        assert gap_of(await anext(room)) == ("gap", 5, 5)
        assert (await anext(room))["text"] == "6"
        assert world.kinds() == ["connecting", "connected", "waiting", "connecting", "connected"]


async def test_what_cannot_be_written_is_the_fault_of_one_call(world, autojump_clock):
    async with world.client() as client:
        for name, since in [("caf\udce9", None), ("lobby", Position("\ud800", 1))]:
            with pytest.raises(NotSentError):  # before there is a connection
                async with client.join(name, since=since):
                    pass
        async with client.join("lobby") as room:
            for call in (
                lambda: room.chat("\ud800"),
                lambda: room.chat(b"x"),
                lambda: room.publish("\udfff", 1),
                lambda: room.publish("e", {"\ud800": 1}),
                lambda: room.chat("x", id="\ud800"),
                lambda: room.publish("e", object()),
            ):
                with pytest.raises(NotSentError):
                    await call()
            for call in (lambda: room.publish("e", 2**64), lambda: room.chat("x", id="i" * 129)):
                with pytest.raises(RefusedError, match="invalid_message"):
                    await call()
            with pytest.raises(NotSentError):
                async with client.join("\udce9"):
                    pass
            assert (await room.chat("x")).offset == 1
        assert world.kinds() == ["connecting", "connected"]
