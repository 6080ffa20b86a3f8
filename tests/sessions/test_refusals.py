"""Every error code of the protocol: one request is refused, and the connection goes on, until it has been enough."""

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from broker.auth.permissions import RoomPolicy
from broker.engine.memory import MemoryEngine
from broker.errors import CloseCode, EngineUnavailableError
from broker.model import Capability, Claims
from broker.sessions.session import SessionServices
from tests.support.engines import LongWayEngine
from tests.support.node import OpenNode
from tests.support.peers import BINARY, client_frame, text_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("nope", "invalid_json"),
        ('{"type":"ping"', "invalid_json"),
        ('{"type":"ping"}{}', "invalid_json"),
        ('{"type":"ping","id":"\\ud800"}', "invalid_message"),
        ('{"type":"publish","event":"e","data":1e400}', "invalid_message"),
        ('{"type":"publish","event":"e","data":[9223372036854775808]}', "invalid_message"),
        ("[" * 60_000, "invalid_message"),
        ('{"a":' * 10_000, "invalid_json"),
        ('{"type":"publish","event":"e","data":%s}' % ("[" * 30_000), "invalid_json"),
        ('{"type":"publish","event":"e","data":%s}' % ("[" * 30_000 + "]" * 30_000), "invalid_message"),
        ("[]", "invalid_message"),
        ("null", "invalid_message"),
        ("{}", "invalid_message"),
        ('{"type":7}', "invalid_message"),
        ('{"type":"chat"}', "invalid_message"),
        ('{"type":"chat","text":1}', "invalid_message"),
        ('{"type":"chat","text":"x","room":1}', "invalid_message"),
        ('{"type":"publish","event":"e"}', "invalid_message"),
        ('{"type":"publish","event":"","data":1}', "invalid_message"),
        ('{"type":"publish","event":"e","data":1,"ephemeral":"yes"}', "invalid_message"),
        ('{"type":"call"}', "invalid_message"),
        ('{"type":"call","method":""}', "invalid_message"),
        ('{"type":"call","method":"m","data":1e400}', "invalid_message"),
        ('{"type":"call","method":"m","data":[9223372036854775808]}', "invalid_message"),
        ('{"type":"result","data":1}', "unknown_type"),
        ('{"type":"join"}', "invalid_message"),
        ('{"type":"join","room":"x","since":{"offset":-1,"epoch":"e"}}', "invalid_message"),
        ('{"type":"join","room":"x","since":7}', "invalid_message"),
        ('{"type":"history","limit":0}', "invalid_message"),
        ('{"type":"refresh"}', "invalid_message"),
        ('{"type":"ping","id":[]}', "invalid_message"),
        ('{"type":"ping","id":1.5}', "invalid_message"),
        ('{"type":"ping","id":99999999999999999999}', "invalid_message"),
        ('{"type":"joined"}', "unknown_type"),
        ('{"type":""}', "unknown_type"),
    ],
)
async def test_an_invalid_request_is_refused_and_the_connection_stays(
    open_node: OpenNode, autojump_clock: MockClock, text: str, code: str
) -> None:
    async with open_node() as node:
        ann = await node.client("ann", "lobby")
        await ann.settle()
        await ann.connection.send_message(text)
        error = await ann.receive()
        assert (error["type"], error["code"]) == ("error", code)
        assert error["message"]
        assert code != "invalid_json" or error["message"] == "Invalid JSON"
        assert (await ann.ask(type="ping"))["type"] == "pong"
        assert node.log_lines() == []


@pytest.mark.parametrize("room", ["", "a/b", "a\nb", "x" * 129, "user_" + "x" * 129, "\x85"])
async def test_a_name_that_no_room_may_have(
    open_node: OpenNode, autojump_clock: MockClock, room: str
) -> None:
    async with open_node() as node:
        ann = await node.client("ann")
        error = await ann.ask(type="join", room=room)
        assert error["code"] == "invalid_message"
        assert error["message"].startswith("room: ")


REQUESTS: list[dict[str, Any]] = [
    {"type": "chat", "text": "x"},
    {"type": "publish", "event": "e", "data": 1},
    {"type": "leave"},
    {"type": "presence"},
    {"type": "history"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request_: request_["type"])
async def test_one_must_be_in_a_room(
    open_node: OpenNode, autojump_clock: MockClock, request_: dict[str, Any]
) -> None:
    async with open_node() as node:
        home, roomless = await node.member("ann", "lobby"), await node.client("bob")
        assert (await home.ask(**request_, room="other"))["code"] == "not_in_room"
        assert (await roomless.ask(**request_, room="lobby"))["code"] == "not_in_room"
        # Without a home, a room must be named.
        error = await roomless.ask(**request_)
        assert error["code"] == "invalid_message"
        assert "room" in error["message"]
        assert (await home.ask(**request_))["type"] != "error"
        if request_["type"] == "leave":
            assert (await home.ask(**request_))["code"] == "not_in_room"


CAPABILITIES: dict[str, dict[str, Any]] = {
    "chat": {"type": "chat", "text": "x"},
    "publish": {"type": "publish", "event": "e", "data": 1},
    "presence": {"type": "presence"},
    "history": {"type": "history"},
}


@pytest.mark.parametrize("missing", CAPABILITIES)
async def test_a_token_that_does_not_allow_it(
    open_node: OpenNode, autojump_clock: MockClock, missing: str
) -> None:
    async with open_node() as node:
        can = ["join", *(capability for capability in CAPABILITIES if capability != missing)]
        ann = await node.member("ann", "lobby", can=can)
        for capability, request in CAPABILITIES.items():
            reply = await ann.ask(**request, id=capability)
            if capability == missing:
                assert reply["code"] == "forbidden"
                assert missing in reply["message"]
            else:
                assert reply["type"] != "error"


async def test_a_token_that_may_not_join(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        assert await (await node.client("ann", "lobby", can=["chat"])).read_code() == CloseCode.FORBIDDEN
        roomless = await node.client("ann", can=["chat"])
        assert (await roomless.ask(type="join", room="lobby"))["code"] == "forbidden"


@pytest.mark.parametrize(
    ("room", "is_allowed"),
    [
        ("lobby", True),
        ("team.a", True),
        ("team.", True),
        ("teams", False),
        ("Lobby", False),
        ("user_ann", False),
    ],
)
async def test_a_token_names_the_rooms_it_may_join(
    open_node: OpenNode, autojump_clock: MockClock, room: str, is_allowed: bool
) -> None:
    async with open_node() as node:
        roomless = await node.client("ann", rooms=["lobby", "team.*"])
        reply = await roomless.ask(type="join", room=room)
        home = await node.client("ann", room, rooms=["lobby", "team.*"])
        if is_allowed:
            assert reply["type"] == "joined"
            assert (await home.receive())["type"] == "joined"
        else:
            assert reply["code"] == "forbidden"
            assert await home.read_to_end() == ([], CloseCode.FORBIDDEN)
            # A refused join leaves nothing behind.
            assert (await roomless.ask(type="chat", text="x", room=room))["code"] == "not_in_room"


@pytest.mark.parametrize("user", ["ann", "x" * 123, "x" * 124, "\U0001f3ad" * 128])
async def test_a_users_own_room_is_the_users_alone(
    open_node: OpenNode, autojump_clock: MockClock, user: str
) -> None:
    async with open_node() as node:
        ann, bob = await node.client(user), await node.client("bob")
        assert (await ann.ask(type="join", room=f"user_{user}"))["type"] == "joined"
        assert (await (await node.client(user, f"user_{user}")).receive())["type"] == "joined"
        assert (await bob.ask(type="join", room=f"user_{user}"))["code"] == "forbidden"
        assert await (await node.client("bob", f"user_{user}")).read_code() == CloseCode.FORBIDDEN


async def test_the_first_rule_that_matches_decides(open_node: OpenNode, autojump_clock: MockClock) -> None:
    rules = [
        {"pattern": "news.open"},
        {"pattern": "news.*", "access": "none"},
        {"pattern": "vip", "access": "token"},
    ]
    async with open_node(rooms=rules) as node:
        ann, named = await node.client("ann"), await node.client("ann", rooms=["vip", "news.*"])
        for client, room, is_allowed in [
            (ann, "news.open", True),
            (ann, "news.x", False),
            (named, "news.x", False),
            (ann, "vip", False),
            (named, "vip", True),
        ]:
            reply = await client.ask(type="join", room=room)
            assert (reply["type"] == "joined") is is_allowed
            assert is_allowed or reply["code"] == "forbidden"


async def test_a_connection_may_be_in_so_many_rooms(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(limits={"rooms_per_connection": 2}) as node:
        ann = await node.member("ann", "a")
        assert (await ann.ask(type="join", room="b"))["type"] == "joined"
        assert (await ann.ask(type="join", room="c"))["code"] == "too_many_rooms"
        assert (await ann.ask(type="join", room="b"))["type"] == "joined", "it is in that one"
        await ann.ask(type="leave", room="a")
        assert (await ann.ask(type="join", room="c"))["type"] == "joined"
        assert node.rooms.statistics().members == 2


async def test_a_client_that_sends_too_fast_gets_retry_after(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"messages_per_second": 2.0, "messages_burst": 3}) as node:
        ann = await node.client("ann")
        for i in range(4):
            await ann.send(type="ping", id=i)
        replies = [await ann.receive() for _ in range(4)]
        assert [reply["type"] for reply in replies] == ["pong", "pong", "pong", "error"]
        assert replies[3]["code"] == "rate_limited"
        retry_after_ms = replies[3]["retry_after_ms"]
        assert 400 <= retry_after_ms <= 501
        await trio.sleep(retry_after_ms / 1000)
        assert (await ann.ask(type="ping"))["type"] == "pong"


async def test_refused_messages_are_not_obeyed(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(limits={"messages_per_second": 1.0, "messages_burst": 1}) as node:
        observer = await node.member("eve", "lobby")
        ann = await node.member("ann", "lobby")
        await observer.receive()
        for i in range(5):
            await ann.send(type="chat", text=str(i))
        assert [m["code"] for m in await ann.settle() if m["type"] == "error"] == ["rate_limited"] * 4
        assert [message["text"] for message in await observer.settle()] == ["0"]


async def test_a_client_that_ignores_retry_after_is_closed_with_4129(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_per_second": 1.0, "messages_burst": 2, "refused_burst": 5}
    async with open_node(limits=limits) as node:
        ann = await node.raw_peer(node.target(token=node.token("ann")))
        await ann.send(text_of(type="ping") * 50)
        kinds = [(await ann.read_message())["type"] for _ in range(7)]
        assert kinds == ["pong"] * 2 + ["error"] * 5
        assert await ann.read_close() == (CloseCode.TOO_MANY, "too many messages")
        assert node.log_lines() == []


async def flood(open_node: OpenNode, sent_per_second: int) -> tuple[int, int | None]:
    """Send pings for a minute at a limit of 50/s; returns how many could be sent, and the close code if there was one."""
    limits = {"messages_per_second": 50.0, "messages_burst": 50, "refused_burst": 200}
    sent = 0
    async with open_node(limits=limits) as node:
        ann = await node.client("ann")
        try:
            for _ in range(sent_per_second * 60):
                await ann.send(type="ping")
                sent += 1
                await trio.sleep(1 / sent_per_second)
            await ann.settle()
        except ConnectionClosed as closed:
            return sent, closed.reason.code
        return sent, None


@pytest.mark.parametrize("sent_per_second", [5000, 500, 200])
async def test_refusals_spend_a_budget_also_with_messages_in_time_between_them(
    open_node: OpenNode, autojump_clock: MockClock, sent_per_second: int
) -> None:
    sent, code = await flood(open_node, sent_per_second)
    assert code == CloseCode.TOO_MANY
    # 50/s are let through and 100/s refused for ever; the bursts are spent by what is above that.
    assert sent <= (50 + 200) * sent_per_second / (sent_per_second - 150) * 1.1


@pytest.mark.parametrize("sent_per_second", [50, 60, 140])
async def test_messages_slightly_over_the_rate_are_refused_and_the_connection_stays(
    open_node: OpenNode, autojump_clock: MockClock, sent_per_second: int
) -> None:
    assert await flood(open_node, sent_per_second) == (sent_per_second * 60, None)


async def test_a_client_that_waits_as_it_is_told_is_never_sent_away(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_per_second": 1.0, "messages_burst": 1, "refused_burst": 1}
    async with open_node(limits=limits) as node:
        ann = await node.client("ann")
        for _ in range(50):
            reply = await ann.ask(type="ping")
            if reply["type"] == "error":
                await trio.sleep(reply["retry_after_ms"] / 1000)
                assert (await ann.ask(type="ping"))["type"] == "pong"


async def test_the_budget_for_refusals_comes_back_with_time(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_per_second": 1.0, "messages_burst": 1, "refused_burst": 5}
    async with open_node(limits=limits) as node:
        ann = await node.client("ann")
        for _ in range(5):
            for _ in range(6):
                await ann.send(type="ping")
            assert [m["type"] for m in await ann.settle()] == ["pong"] + ["error"] * 5
            await trio.sleep(5)


async def test_rubbish_counts_for_the_rate(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(limits={"messages_per_second": 1.0, "messages_burst": 2}) as node:
        ann = await node.client("ann")
        for _ in range(3):
            await ann.connection.send_message("rubbish")
        assert [m["code"] for m in await ann.settle()] == ["invalid_json", "invalid_json", "rate_limited"]


@attrs.define
class Outage:
    """When the engine cannot serve."""

    is_on: bool = False

    def make(self, clock: Any) -> MemoryEngine:
        outage = self

        class Engine(LongWayEngine):
            async def position(self, room: str) -> Any:
                outage.check()
                return await super().position(room)

            async def append(self, *args: Any) -> Any:
                outage.check()
                return await super().append(*args)

            async def read(self, *args: Any, **kwargs: Any) -> Any:
                outage.check()
                return await super().read(*args, **kwargs)

        return Engine(wall_clock=clock, idempotency_seconds=300)

    def check(self) -> None:
        if self.is_on:
            raise EngineUnavailableError("the engine is away", retry_after_ms=2500)


async def test_without_the_engine_requests_are_refused_and_repeated_later(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    outage = Outage()
    async with open_node(engine=outage.make) as node:
        ann = await node.member("ann", "lobby")
        outage.is_on = True
        for request in [
            {"type": "chat", "text": "x", "id": 1},
            {"type": "publish", "event": "e", "data": 1, "id": 2},
            {"type": "history", "id": 3},
            {"type": "join", "room": "new", "id": 4},
            {"type": "join", "room": "lobby", "since": {"offset": 0, "epoch": await epoch_of(ann)}, "id": 5},
        ]:
            error = await ann.ask(**request)
            assert (error["type"], error["code"], error["id"]) == ("error", "unavailable", request["id"])
            assert error["retry_after_ms"] == 2500
        assert (await ann.ask(type="ping"))["type"] == "pong"
        assert (await ann.ask(type="presence"))["room_size"] == 1
        outage.is_on = False
        assert (await ann.ask(type="chat", text="x", id=1))["offset"] == 1
        assert (await ann.ask(type="join", room="new"))["room_size"] == 1
        assert node.log_lines() == []


async def epoch_of(client: Any) -> str:
    joined = await client.ask(type="join", room="lobby")
    epoch: str = joined["epoch"]
    return epoch


async def test_without_the_engine_a_connection_to_a_room_gets_1013(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    outage = Outage(is_on=True)
    async with open_node(engine=outage.make) as node:
        ann = await node.client("ann", "lobby")
        assert await ann.read_to_end() == ([], CloseCode.TRY_AGAIN_LATER)
        await trio.sleep(2)
        assert node.is_empty()
        outage.is_on = False
        assert (await (await node.client("ann", "lobby")).receive())["type"] == "joined"


async def test_a_join_that_fails_leaves_no_membership(open_node: OpenNode, autojump_clock: MockClock) -> None:
    outage = Outage()
    async with open_node(engine=outage.make) as node:
        observer = await node.member("eve", "lobby")
        ann = await node.client("ann")
        epoch = await epoch_of(observer)
        outage.is_on = True
        reply = await ann.ask(type="join", room="lobby", since={"offset": 0, "epoch": epoch})
        assert reply["code"] == "unavailable"
        assert (await ann.ask(type="presence", room="lobby"))["code"] == "not_in_room"
        outage.is_on = False
        await ann.aclose()
        assert [m["type"] for m in await observer.settle() if m.get("user_id") == "ann"] == []


async def test_a_policy_that_fails_ends_the_connection_with_1011(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    @attrs.frozen
    class Poisoned(RoomPolicy):
        def check(self, claims: Claims, room: str, capability: Capability) -> None:
            if room == "poison":
                raise ZeroDivisionError("a fault of the policy")

    def adapt(services: SessionServices) -> SessionServices:
        return attrs.evolve(services, policy=Poisoned((), True))

    async with open_node(adapt=adapt) as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        await bob.send(type="join", room="poison")
        assert await bob.read_to_end() == ([], CloseCode.INTERNAL_ERROR)
        assert [m["type"] for m in await ann.settle()] == ["user_joined", "user_left"]
        (line,) = node.log_lines()
        assert "a fault of the policy" in str(line)


async def test_binary_is_no_request(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await peer.send(client_frame(BINARY, json.dumps({"type": "ping"}).encode()))
        assert await peer.read_close() == (CloseCode.BINARY_MESSAGE, "text messages only")
