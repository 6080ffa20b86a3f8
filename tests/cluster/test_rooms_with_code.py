"""A room with code on several nodes: one of them owns it, and nobody can tell which."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any

import msgspec
import pytest
import trio

from actors import Reply
from broker.errors import EngineUnavailableError, ErrorCode, Refused
from broker.model import Draft, IdempotencyKey
from broker.notices import Acknowledged, Called, Failed, Joined, RoomEvent
from broker.protocol.content import notifier_content
from broker.room_actors import Member, Message, Refusal, RoomActor, Timer, call
from broker.room_actors.forwarder import ANSWER_SECONDS
from broker.rooms.messages import Call, Publish
from tests.cluster.nodes import Guest, Node, open_node
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import RedisServer
from tests.support.redis_proxy import open_proxy

pytestmark = pytest.mark.trio


class Count(msgspec.Struct):
    number: int = 0
    log: list[str] = []


class Counter(RoomActor[Count], pattern="*"):
    async def on_open(self) -> None:
        self.state.log.append("open")

    async def on_close(self) -> None:
        self.state.log.append("close")

    async def on_join(self, member: Member) -> None:
        if member.user_id == "eve":
            raise Refusal("not you")
        self.state.log.append(f"join {member.user_id}")
        self.say({"type": "hello", "to": member.user_id})
        self.say({"type": "passing", "to": member.user_id}, ephemeral=True)
        self.say({"type": "whisper", "to": member.user_id}, to=member)

    async def on_leave(self, member: Member) -> None:
        if member.user_id == "mia":
            raise ZeroDivisionError
        self.state.log.append(f"leave {member.user_id}")
        self.say({"type": "bye", "from": member.user_id})

    async def on_message(self, sender: Member | None, message: Message) -> Message | None:
        if message.name == "secret":
            raise Refusal("no secrets")
        return message

    async def on_timer(self, timer: Timer) -> None:
        self.say({"type": "fired", "timer": timer.name})

    @call
    async def add(self, sender: Member | None, number: int) -> int:
        self.state.number += number
        return self.state.number

    @call
    async def take(self, sender: Member | None) -> str:
        if self.state.number <= 0:
            raise Refusal("nothing is left")
        self.state.number -= 1
        return "taken"

    @call
    async def who(self, sender: Member | None) -> list[str]:
        return sorted(member.user_id for member in self.members)

    @call
    async def log_of(self, sender: Member | None) -> list[str]:
        return self.state.log

    @call
    async def alarm(self, sender: Member | None, name: str) -> None:
        self.set_timer(name, 0.05)

    @call
    async def fail(self, sender: Member | None) -> None:
        raise ZeroDivisionError

    @call
    async def whisper(self, sender: Member | None, user: str) -> str:
        self.say({"type": "whisper", "to": user}, to=user)
        return "whispered"

    @call
    async def tell_all_but(self, sender: Member | None, users: list[str]) -> None:
        self.say({"type": "told"}, to=self.members, but=users)
        self.say({"type": "told"}, but=users)
        self.say({"type": "end"})


@pytest.fixture
async def nodes(redis: RedisServer) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_node(redis.url, classes=[Counter])) for _ in range(3)]


_ids = count(1)


async def ask(node: Node, method: str, data: object = None, *, key: str | None = None) -> Any:
    given = None if key is None else IdempotencyKey("http", key)
    return msgspec.json.decode(await node.rooms.call("den", method, msgspec.json.encode(data), given))


async def ask_as(node: Node, guest: Guest, method: str, data: object = None) -> Any:
    """Call a method as a session does, and return the answer."""
    number = next(_ids)
    await node.tell(Call(method, msgspec.json.encode(data), None, guest, number))

    def answers() -> list[Called | Failed]:
        return [n for n in guest.heard if isinstance(n, Called | Failed) and n.request_id == number]

    await guest.wait(lambda: bool(answers()))
    answer = answers()[0]
    return msgspec.json.decode(answer.data) if isinstance(answer, Called) else answer


def said(guest: Guest, type_: str) -> list[dict[str, Any]]:
    """Return the events of a type that a guest has heard, in `joined` or later."""
    events = [event for joined in guest.heard_of(Joined) for event in joined.events]
    events += [notice.event for notice in guest.heard_of(RoomEvent)]
    contents = [msgspec.json.decode(event.content) for event in events]
    return [content for content in contents if content["type"] == type_]


async def chat(node: Node, content: bytes = b'{"type":"note"}', key: str | None = None) -> Any:
    content, header = notifier_content(content)
    return await node.rooms.publish(
        "den", Draft(content, key=None if key is None else IdempotencyKey("http", key), header=header)
    )


async def test_calls_of_all_nodes_are_turns_of_one_room(nodes: list[Node]) -> None:
    answers = [await ask(nodes[number % 3], "add", 1) for number in range(9)]
    assert answers == list(range(1, 10))
    assert await ask(nodes[1], "log_of") == ["open"]
    results: list[int] = []

    async def add(node: Node) -> None:
        results.append(await ask(node, "add", 1))

    async with trio.open_nursery() as nursery:
        for node in nodes:
            for _ in range(20):
                nursery.start_soon(add, node)
    assert sorted(results) == list(range(10, 70))


async def test_a_request_with_an_id_is_done_once_wherever_it_is_repeated(nodes: list[Node]) -> None:
    assert [await ask(node, "add", 5, key="k") for node in nodes * 2] == [5] * 6
    positions = {(await chat(node, key="m")).receipt.position for node in nodes}
    assert len(positions) == 1
    assert await ask(nodes[2], "add", 1, key="m") == 6


async def test_members_of_all_nodes_are_in_the_room(nodes: list[Node]) -> None:
    guests = [await node.enter(user) for node, user in zip(nodes, ("ann", "bob", "cas"), strict=True)]
    for node, guest in zip(nodes, guests, strict=True):
        # Each has heard what its own join has led to, and everything after that.
        await guest.wait(lambda guest=guest: bool(said(guest, "passing")))
        assert said(guest, "hello")[0]["to"] == guest.user_id
        assert [w["to"] for w in said(guest, "whisper")] == [guest.user_id]
        assert await ask_as(node, guest, "who") == ["ann", "bob", "cas"]
    last = said(guests[2], "hello")
    assert [hello["to"] for hello in last] == ["cas"]
    await guests[0].wait(lambda: len(said(guests[0], "hello")) == 3)
    for number, (node, guest) in enumerate(zip(nodes, guests, strict=True)):
        position = await node.chat(guest, '{"type":"chat","text":"hi"}', number)
        assert isinstance(position, Acknowledged)
    await nodes[1].leave(guests[1])
    for guest in (guests[0], guests[2]):
        await guest.wait(lambda guest=guest: bool(said(guest, "bye")))
    assert await ask(nodes[1], "who") == ["ann", "cas"]


async def test_a_member_hears_everything_from_its_own_join_on(nodes: list[Node]) -> None:
    guests: list[Guest] = []

    async def talk() -> None:
        for _ in range(60):
            await chat(nodes[0])

    async def enter(user: str) -> None:
        guests.append(await nodes[1].enter(user))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        for number in range(12):
            await chat(nodes[2])
            nursery.start_soon(enter, f"user {number}")
    last = (await chat(nodes[0], b'{"type":"last"}')).receipt.position.offset
    for guest in guests:
        await guest.wait(lambda guest=guest: guest.at is not None and guest.at.offset == last)
        (joined,) = guest.heard_of(Joined)
        events = [*joined.events, *(notice.event for notice in guest.heard_of(RoomEvent))]
        stored = [event for event in events if event.offset is not None]
        assert msgspec.json.decode(stored[0].content) == {"type": "hello", "to": guest.user_id}
        assert [event.offset for event in stored] == list(range(stored[0].offset, last + 1))


async def test_what_the_code_refuses_is_refused_on_every_node(nodes: list[Node]) -> None:
    for node in nodes:
        with pytest.raises(Refused, match="not you"):
            await node.enter("eve")
        with pytest.raises(Refused, match="no secrets"):
            await chat(node, b'{"type":"secret"}')
        with pytest.raises(Refused) as wrong:
            await ask(node, "add", "one")
        assert wrong.value.code is ErrorCode.INVALID_MESSAGE
        with pytest.raises(Refused) as failed:
            await ask(node, "fail")
        assert failed.value.code is ErrorCode.FAILED
        assert await ask(node, "add", 0) == 0


async def test_a_message_to_some_reaches_them_on_every_node_before_the_answer(nodes: list[Node]) -> None:
    guests = [await node.enter(user) for node, user in zip(nodes, ("ann", "bob", "cas"), strict=True)]
    for node, guest in zip(nodes, guests, strict=True):
        assert await ask_as(node, guest, "whisper", guest.user_id) == "whispered"
        assert len(said(guest, "whisper")) == 2
    for guest in guests:
        assert {w["to"] for w in said(guest, "whisper")} == {guest.user_id}


async def test_a_message_to_some_is_withheld_from_others_on_every_node(nodes: list[Node]) -> None:
    users = ("ann", "bob", "cas", "dan", "eda", "fay")
    guests = [await node.enter(user) for node, user in zip(nodes * 2, users, strict=True)]
    await ask(nodes[1], "tell_all_but", ["ann", "bob", "cas"])
    for guest in guests:
        await guest.wait(lambda guest=guest: bool(said(guest, "end")))
        await guest.wait(lambda guest=guest: guest.user_id < "d" or len(said(guest, "told")) == 2)
        # What is said to some comes in another way than what is said to all: after the next answer it is there.
        await ask_as(nodes[guests.index(guest) % 3], guest, "who")
        assert len(said(guest, "told")) == (0 if guest.user_id < "d" else 2)


async def test_timers_fire_once(nodes: list[Node]) -> None:
    guest = await nodes[0].enter("ann")
    for number, node in enumerate(nodes * 3):
        await ask(node, "alarm", f"t{number}")
    await guest.wait(lambda: len(said(guest, "fired")) >= 9)
    await ask(nodes[1], "alarm", "last")
    await guest.wait(lambda: said(guest, "fired")[-1]["timer"] == "last")
    assert sorted(fired["timer"] for fired in said(guest, "fired")) == [
        "last",
        *(f"t{number}" for number in range(9)),
    ]


async def test_a_node_that_stops_hands_its_rooms_over(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        west = await stack.enter_async_context(open_node(redis.url, classes=[Counter], lease_seconds=60.0))
        guest = await west.enter("ann")
        async with open_node(redis.url, classes=[Counter], lease_seconds=60.0) as east:
            # The room is west's; one of its own is east's.
            await east.rooms.call("attic", "add", b"1", None)
            assert await ask(east, "add", 1) == 1
        assert await west.rooms.call("attic", "add", b"1", None) == b"2"
        assert await west.rooms.call("attic", "log_of", b"null", None) == b'["open","close","open"]'
        assert await ask_as(west, guest, "add", 1) == 2


class Closing(RoomActor[Count], pattern="*"):
    @call
    async def prepare(self, sender: Member | None, how: str) -> None:
        self.state.log = [how]

    async def on_close(self) -> None:
        match self.state.log:
            case ["fails"]:
                raise ZeroDivisionError
            case ["takes too long"]:
                await trio.sleep_forever()
            case ["spawns"]:
                self.spawn("task", trio.sleep, 1)


@pytest.mark.parametrize("how", ["fails", "takes too long", "spawns"])
async def test_a_room_is_handed_over_whatever_its_code_does_at_the_end(redis: RedisServer, how: str) -> None:
    async with open_node(redis.url, classes=[Closing], lease_seconds=60.0) as east:
        async with open_node(redis.url, classes=[Closing], lease_seconds=60.0) as west:
            await ask(west, "prepare", how)
        # Else it would be west's for a minute.
        await ask(east, "prepare", "")


async def test_a_node_that_has_lost_a_room_does_not_refuse_by_its_old_state(
    nodes: list[Node], redis: RedisServer
) -> None:
    west, east = nodes[:2]
    with pytest.raises(Refused, match="nothing is left"):
        await ask(west, "take")
    with pytest.raises(Refused, match="not you"):
        await west.enter("eve")
    redis.ask("HSET", "cluster:{den}:code", "node", "another")
    await ask(east, "add", 1)
    with pytest.raises(EngineUnavailableError):
        await ask(west, "take")
    assert await ask(west, "take") == "taken"


async def test_nothing_is_refused_because_of_a_turn_that_was_not_stored(
    nodes: list[Node], redis: RedisServer
) -> None:
    west = nodes[0]
    assert await ask(west, "add", 1) == 1
    redis.ask("HSET", "cluster:{den}:code", "node", "another")
    # Both are turns of one batch, and so stored together.
    calls = [Call("take", b"null", reply=Reply()) for _ in range(2)]
    for each in calls:
        assert west.rooms.tell_nowait("den", each) is not None
    for each in calls:
        assert each.reply is not None
        with pytest.raises(EngineUnavailableError):
            await each.reply.wait()
    assert await ask(west, "take") == "taken"


async def test_a_service_is_told_of_the_members_of_all_nodes(nodes: list[Node]) -> None:
    assert await ask(nodes[0], "add", 1) == 1
    await nodes[1].enter("bob")
    with trio.fail_after(PATIENCE_SECONDS):
        for node in nodes:
            # Until the node has told of the member.
            while (await chat(node)).room_size != 1:
                await trio.sleep(0.01)


async def test_a_chat_is_answered_though_a_leave_behind_it_fails(redis: RedisServer) -> None:
    async with open_node(redis.url, classes=[Counter]) as west:
        ann, mia = await west.enter("ann"), await west.enter("mia")
        # Another node owns the room and does not answer, until it is taken to be dead.
        seconds, _ = redis.ask("TIME")
        redis.ask("ZADD", "cluster:alive", (int(seconds) + 100) * 1000, "another")
        redis.ask("HSET", "cluster:{den}:code", "node", "another")
        with pytest.raises(EngineUnavailableError):
            await ask(west, "add", 1)
        content, header = notifier_content(b'{"type":"note"}')
        await west.tell(Publish(Draft(content, header=header), ann, 1))
        await west.leave(mia)
        # Answered behind both: they wait for the owner now.
        await west.rooms.inspect("den")
        redis.ask("ZADD", "cluster:alive", 1, "another")
        await ann.wait(lambda: bool(ann.heard_of(Acknowledged)))


async def test_members_of_a_dead_node_have_left_though_the_code_fails_for_one(redis: RedisServer) -> None:
    async with (
        open_proxy(redis.port) as proxy,
        open_node(redis.url, classes=[Counter], lease_seconds=1.0) as west,
    ):
        await ask(west, "who")
        async with open_node(proxy.url, classes=[Counter], lease_seconds=1.0) as east:
            for user in ("ann", "mia", "bob", "cas"):
                await east.enter(user)
            proxy.is_closed = True
            proxy.cut(proxy.routes)
            await wait_log(west, "leave ann", "leave bob", "leave cas")


async def test_a_member_that_leaves_while_redis_is_away_has_its_turn_later(redis: RedisServer) -> None:
    async with (
        open_proxy(redis.port) as proxy,
        open_node(proxy.url, classes=[Counter], lease_seconds=60.0) as west,
    ):
        ann = await west.enter("ann")
        proxy.is_closed = True
        proxy.cut(proxy.routes)
        await west.leave(ann)
        # Answered behind it.
        with pytest.raises(EngineUnavailableError):
            await west.rooms.inspect("den")
        proxy.is_closed = False
        await wait_log(west, "leave ann")


async def wait_log(node: Node, *lines: str) -> None:
    """Wait until the room has noted these."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(EngineUnavailableError):
                if set(lines) <= set(await ask(node, "log_of")):
                    return
            await trio.sleep(0.05)


async def test_another_node_follows_an_owner_that_has_lost_the_room(redis: RedisServer) -> None:
    async with (
        open_node(redis.url, classes=[Counter]) as west,
        open_node(redis.url, classes=[Counter]) as east,
    ):
        ann = await west.enter("ann")
        assert await ask(west, "add", 1) == 1
        bob = await east.enter("bob")
        assert await ask(east, "add", 1) == 2
        # As if another node had owned it while west was away, and had died.
        redis.ask("HSET", "cluster:{den}:code", "node", "another")
        with pytest.raises(EngineUnavailableError):
            await ask(west, "add", 100)
        assert await ask_as(east, bob, "add", 1) == 3
        assert await ask_as(west, ann, "add", 1) == 4
        assert await ask_as(east, bob, "who") == ["ann", "bob"]


async def test_requests_are_done_in_their_order_though_the_owner_did_not_hear_for_a_moment(
    redis: RedisServer,
) -> None:
    async with (
        open_proxy(redis.port) as wests,
        open_proxy(redis.port) as easts,
        open_node(wests.url, classes=[Counter], lease_seconds=60.0) as west,
        open_node(easts.url, classes=[Counter], lease_seconds=60.0) as east,
    ):
        assert await ask(west, "add", 1) == 1
        bob = await east.enter("bob")
        owner = redis.ask("HGET", "cluster:{den}:code", "node")
        (channel,) = [each for each in redis.ask("PUBSUB", "CHANNELS", "*peer*") if owner in each]

        def is_heard() -> bool:
            return bool(redis.ask("PUBSUB", "NUMSUB", channel)[1])

        async def say(number: int) -> None:
            content, header = notifier_content(msgspec.json.encode({"type": "number", "number": number}))
            await east.tell(Publish(Draft(content, header=header), bob, number))

        # The owner has lost its subscription; the other node hears late what became of its messages.
        wests.gate = trio.Event()
        wests.cut(wests.feeds())
        while is_heard():
            await trio.sleep(0.01)
        easts.latency_seconds = 0.3
        await say(1)
        await trio.sleep(0.1)  # until it is published, which nobody hears
        wests.gate.set()
        while not is_heard():
            await trio.sleep(0.01)
        await say(2)
        await bob.wait(lambda: len(said(bob, "number")) == 2)
        assert [event["number"] for event in said(bob, "number")] == [1, 2]


async def test_a_member_joins_once_though_the_answer_was_lost(redis: RedisServer) -> None:
    async with (
        open_proxy(redis.port) as proxy,
        open_node(redis.url, classes=[Counter], lease_seconds=60.0) as west,
        open_node(proxy.url, classes=[Counter], lease_seconds=60.0) as east,
    ):
        await ask(west, "add", 1)
        await east.enter("amy")
        bob = Guest("bob")
        for route in proxy.feeds():
            route.is_mute = True

        async def join_unanswered() -> None:
            with pytest.raises(EngineUnavailableError):
                await east.join(bob)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join_unanswered)
            while "join bob" not in await ask(west, "log_of"):
                await trio.sleep(0.01)
            proxy.cut(proxy.feeds())
        await chat(west)
        while not bob.heard_of(Joined):
            with suppress(EngineUnavailableError):
                await east.join(bob)
        assert await ask(west, "log_of") == ["open", "join amy", "join bob"]
        await chat(west, b'{"type":"last"}')
        await bob.wait(lambda: bool(said(bob, "last")))
        # All since its join; `Guest` checks that the others follow without a gap.
        assert [hello["to"] for hello in said(bob, "hello")] == ["bob"]


async def test_requests_of_other_nodes_are_answered_at_once_when_the_room_is_given_up(
    nodes: list[Node],
) -> None:
    west, east = nodes[:2]
    await ask(west, "add", 1)
    calls = [Call("fail", b"null", reply=Reply()) for _ in range(8)] + [Call("who", b"null", reply=Reply())]
    for each in calls:
        await east.rooms.tell("den", each)
    with trio.fail_after(ANSWER_SECONDS / 2):
        for each in calls:
            assert each.reply is not None
            with suppress(Refused, EngineUnavailableError):
                await each.reply.wait()
    # It begins again when it is next asked for.
    assert await ask(east, "add", 1) == 2


SHORT_LEASE_SECONDS = 0.6


async def wait_until(node: Node, method: str, result: object) -> None:
    """Wait until a method returns a result, however long the room has no owner."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(EngineUnavailableError):
                if await ask(node, method) == result:
                    return
            await trio.sleep(0.02)


async def test_members_of_a_node_that_was_cut_off_leave_and_join_again(redis: RedisServer) -> None:
    async with (
        open_proxy(redis.port) as proxy,
        open_node(redis.url, classes=[Counter], lease_seconds=SHORT_LEASE_SECONDS) as west,
        open_node(proxy.url, classes=[Counter], lease_seconds=SHORT_LEASE_SECONDS) as east,
    ):
        await ask(west, "add", 1)
        ann, mia, zoe = [await east.enter(user) for user in ("ann", "mia", "zoe")]
        await wait_until(west, "who", ["ann", "mia", "zoe"])
        proxy.is_closed = True
        proxy.cut(proxy.routes)
        await wait_until(west, "who", [])
        # The code fails for one, and the others have their turns.
        log = await ask(west, "log_of")
        assert sorted(each for each in log if each != "open")[3:] == ["leave ann", "leave zoe"]
        proxy.is_closed = False
        # Its join comes before what it asks for.
        while isinstance(members := await ask_as(east, ann, "who"), Failed):
            pass
        assert "ann" in members
        await wait_until(west, "who", ["ann", "mia", "zoe"])
        log = [each for each in await ask(west, "log_of") if each != "open"]
        assert sorted(log[5:]) == ["join ann", "join mia", "join zoe"]
        for guest in (ann, mia, zoe):
            await guest.wait(lambda guest=guest: said(guest, "hello")[-1]["to"] == log[-1].split()[1])
            count = len(said(guest, "whisper"))
            assert await ask_as(east, guest, "whisper", guest.user_id) == "whispered"
            assert len(said(guest, "whisper")) == count + 1
        await east.leave(ann)
        await wait_until(west, "who", ["mia", "zoe"])
        assert (await ask(west, "log_of"))[-1] == "leave ann"


async def test_members_of_an_owner_that_was_cut_off_are_known_to_the_next(redis: RedisServer) -> None:
    async with (
        open_proxy(redis.port) as proxy,
        open_node(proxy.url, classes=[Counter], lease_seconds=SHORT_LEASE_SECONDS) as west,
        open_node(redis.url, classes=[Counter], lease_seconds=SHORT_LEASE_SECONDS) as east,
    ):
        ann = await west.enter("ann")
        assert await ask(east, "who") == ["ann"]
        proxy.is_closed = True
        proxy.cut(proxy.routes)
        await wait_until(east, "who", [])
        proxy.is_closed = False
        await wait_until(east, "who", ["ann"])
        assert "leave ann" not in await ask(east, "log_of")
        assert (await ask(east, "log_of")).count("join ann") == 1
        await ask(east, "whisper", "ann")
        await ann.wait(lambda: len(said(ann, "whisper")) == 2)
