"""The resources of one user over all connections: within the stated bounds, under any actions in any order."""

import gc
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.config.settings import HistorySettings, LimitSettings, Settings
from broker.engine.base import Receipt, Retention
from broker.errors import CloseCode, ErrorCode, Refused
from broker.model import Draft
from broker.protocol.content import chat_content
from broker.sessions.allowance import MESSAGE_BYTES, Allowances, ByteMeter
from tests.support.engines import LongWayEngine
from tests.support.node import OpenNode
from tests.support.peers import Client, Message, text_of

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["message", "id", "room", "reconnect"]), st.sampled_from([0.0, 0.1, 3.0, 100.0])
    ),
    max_size=200,
)


def attempt(allowances: Allowances, step: str, now: float, text: str) -> bool:
    """Make one connection, try one thing, and end the connection; returns whether it was let through."""
    allowance = allowances.of("ann", now)
    meter = ByteMeter(allowance)
    try:
        match step:
            case "message":
                return not meter.take(now, text)
            case "id":
                allowance.take_id(now)
            case "room":
                allowance.take_room(now)
            case _:
                return False
    except Refused as refused:
        return refused.code != ErrorCode.RATE_LIMITED
    finally:
        meter.close()
        allowances.release(allowance, now)
    return True


@given(STEPS, st.text(max_size=30))
def test_no_order_of_things_and_connections_goes_past_the_bounds(
    steps: list[tuple[str, float]], text: str
) -> None:
    limits = LimitSettings(
        user_bytes_per_second=50.0,
        user_bytes_burst=1000,
        user_rooms_per_second=0.5,
        user_rooms_burst=3,
        ids_per_user=8,
    )
    allowances = Allowances(Settings(limits=limits, history=HistorySettings(idempotency_seconds=60.0)))
    now, done = 0.0, list[tuple[str, float]]()
    for step, gap in steps:
        now += gap
        if attempt(allowances, step, now, text):
            done.append((step, now))
        if step == "reconnect":
            gc.collect(0)
    size = len(text.encode()) + len("ann") + MESSAGE_BYTES
    for _, begin in done:
        for _, end in done:
            if end >= begin:
                inside = [step for step, at in done if begin <= at <= end]
                assert inside.count("message") * size <= 1000 + 50.0 * (end - begin) + 1e-6
                assert inside.count("room") <= 3 + 0.5 * (end - begin) + 1e-6
                if end - begin < 60:
                    assert inside.count("id") <= 8


def test_the_allowance_of_an_absent_user_is_forgotten_once_it_is_full() -> None:
    settings = Settings()
    allowances = Allowances(settings)
    for number in range(10_000):
        now = number * 1.0
        allowance = allowances.of(f"user {number}", now)
        allowance.take_room(now)
        allowances.release(allowance, now)
    del allowance
    assert len(allowances) <= settings.history.idempotency_seconds + 2


@pytest.mark.parametrize("connections", [1, 10])
def test_the_defaults_are_not_met_by_ordinary_use(connections: int) -> None:
    """A busy person types into several pages; each page comes back into 100 rooms after the node was restarted."""
    settings = Settings()
    allowances = Allowances(settings)
    held = [allowances.of("ann", 0.0) for _ in range(connections)]
    meters = [ByteMeter(allowance) for allowance in held]
    for allowance in held:
        for _ in range(min(100, 200 // connections)):
            allowance.take_room(0.0)
    for second in range(3600):
        for allowance, meter in zip(held, meters, strict=True):
            for _ in range(2):
                assert not meter.take(second, "x" * 500)
                allowance.take_id(second)


def test_one_connection_at_its_own_limit_meets_none_of_its_users() -> None:
    settings = Settings()
    allowance = Allowances(settings).of("ann", 0.0)
    meter = ByteMeter(allowance)
    rate = settings.limits.messages_per_second
    for number in range(int(600 * rate)):
        assert not meter.take(number / rate, "x" * 1000)
        allowance.take_id(number / rate)


def test_a_message_larger_than_the_burst_is_not_refused_for_ever() -> None:
    settings = Settings(limits=LimitSettings(user_bytes_burst=1000, user_bytes_per_second=10.0))
    meter = ByteMeter(Allowances(settings).of("ann", 0.0))
    assert not meter.take(0.0, "x" * 5000)
    wait_seconds = meter.take(0.0, "x" * 5000)
    assert wait_seconds
    assert not meter.take(wait_seconds + 1e-6, "x" * 5000)


@given(st.integers(0, 500), st.none() | st.integers(1, 2000), st.none() | st.integers(1, 2000))
def test_an_event_is_charged_with_the_info_in_it(text: int, before: int | None, now: int | None) -> None:
    """The token is replaced: the info of the present one counts."""
    burst = 100_000
    settings = Settings(limits=LimitSettings(user_bytes_burst=burst, user_bytes_per_second=1.0))
    meter = ByteMeter(Allowances(settings).of("ann", 0.0), None if before is None else b"1" * before)
    info = None if now is None else b"1" * now
    meter.set_info(info)
    events = 0
    while not meter.take(0.0, "x" * text):
        events += 1
    assert events > 0
    assert events * len(chat_content("ann", "x" * text, 500, info)) <= burst


async def test_bytes_count_over_all_connections_and_rooms_of_a_user(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"user_bytes_burst": 10_000, "user_bytes_per_second": 1000.0}) as node:
        clients = [await node.client("ann", f"room {number}") for number in range(4)]
        bob = await node.client("bob", "room 0")
        said = {"type": "publish", "event": "e", "data": "x" * 3000}
        replies = [await client.ask(**said) for client in clients]
        assert [reply["type"] for reply in replies] == ["ack"] * 3 + ["error"]
        assert replies[-1]["code"] == "rate_limited"
        assert node.services.refusals.counts["user_bytes"] == 1
        assert (await bob.ask(**said))["type"] == "ack", "others have an allowance of their own"
        for client in clients:
            await client.aclose()
        again = await node.client("ann", "room 0")
        assert (await again.ask(**said))["code"] == "rate_limited"
        await trio.sleep(replies[-1]["retry_after_ms"] / 1000)
        assert (await again.ask(**said))["type"] == "ack"


async def test_ids_count_over_all_connections_and_those_without_go_on(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"ids_per_user": 6}, history={"idempotency_seconds": 60.0}) as node:
        clients = [await node.client("ann", "den") for _ in range(2)]
        replies = [await clients[n % 2].ask(type="chat", text="x", id=n) for n in range(4)]
        assert [reply["type"] for reply in replies] == ["ack"] * 3 + ["error"]
        assert replies[3]["code"] == "rate_limited"
        assert node.services.refusals.counts["user_ids"] == 1
        assert 19_000 < replies[3]["retry_after_ms"] <= 20_001
        await clients[0].send(type="chat", text="without")
        assert "without" in [message.get("text") for message in await clients[0].settle()]
        assert (await clients[0].ask(type="ping", id=9))["type"] == "pong", "nothing is remembered of it"


async def test_rooms_brought_up_count_over_all_connections_and_those_that_are_up_do_not(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"user_rooms_burst": 3, "user_rooms_per_second": 0.01}) as node:
        other = await node.client("eve", "up")
        clients = [await node.client("ann", f"own {number}") for number in range(3)]
        assert (await clients[0].ask(type="join", room="up"))["type"] == "joined"
        refused = await clients[0].ask(type="join", room="own 3")
        assert refused["code"] == "rate_limited"
        assert 99_000 < refused["retry_after_ms"] <= 100_001
        assert await (await node.client("ann", "own 4")).read_code() == CloseCode.TOO_MANY
        assert node.services.refusals.counts["user_rooms"] == 2
        assert (await other.ask(type="join", room="own 4"))["type"] == "joined"
        await trio.sleep(refused["retry_after_ms"] / 1000)
        assert (await clients[0].ask(type="join", room="own 3"))["type"] == "joined"


async def test_a_node_full_of_rooms_says_so_and_when_to_come_again(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"rooms": 1}) as node:
        ann = await node.client("ann", "den")
        await ann.settle()
        refused = await ann.ask(type="join", room="attic")
        assert (refused["code"], bool(refused["retry_after_ms"])) == ("unavailable", True)
        assert await (await node.client("bob", "attic")).read_code() == CloseCode.TRY_AGAIN_LATER
        assert node.services.refusals.counts["rooms_full"] == 2
        assert (await ann.ask(type="leave"))["type"] == "left"
        assert (await ann.ask(type="join", room="attic"))["type"] == "joined"


async def first(client: Client, count: int) -> AsyncIterator[Message]:
    """Give the next replies that carry an id."""
    while count:
        message = await client.receive()
        if "id" in message:
            count -= 1
            yield message


class SlowEngine(LongWayEngine):
    """Keeps a room busy, so that its inbox fills."""

    def __init__(self) -> None:
        super().__init__(wall_clock=lambda: 1_700_000_000.0, idempotency_seconds=300.0)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        await trio.sleep(1)
        return await super().append(room, drafts, retention)


async def test_a_message_that_waits_for_its_room_is_paid_for_once(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {
        "mailbox_messages": 1,
        "ids_per_user": 40,
        "user_bytes_burst": 20 * 400,
        "user_bytes_per_second": 0.001,
    }
    async with open_node(limits=limits, engine=lambda _clock: SlowEngine()) as node:
        ann = await node.client("ann", "den")
        for number in range(20):
            await ann.send(type="chat", text="x", id=number)
        replies = [message async for message in first(ann, 20)]
        assert [reply["type"] for reply in replies] == ["ack"] * 20


async def test_a_request_that_is_tried_the_fast_way_first_is_paid_for_once(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"user_bytes_burst": 20 * 400, "user_bytes_per_second": 0.001}
    async with open_node(limits=limits) as node:
        peer = await node.raw_peer(node.target("den", token=node.token("ann")))
        for number in range(20):
            await peer.send(text_of(type="presence", id=number))
            while (message := await peer.read_message()).get("id") != number:
                pass
            assert message["type"] == "presence"


async def test_a_user_has_so_many_rooms_up_at_a_time(open_node: OpenNode, autojump_clock: MockClock) -> None:
    limits = {"user_rooms": 2, "messages_burst": 1000}
    async with open_node(limits=limits, room={"idle_seconds": 60}) as node:
        eve = await node.client("eve", "eve's")
        ann, too = await node.client("ann", "own 1"), await node.client("ann", "own 2")
        # Of this user, over all connections; a room that is up takes no place, and others have their own.
        refused = await ann.ask(type="join", room="own 3")
        assert (refused["code"], refused["retry_after_ms"]) == ("rate_limited", 5001)
        assert (await ann.ask(type="join", room="eve's"))["type"] == "joined"
        assert await (await node.client("ann", "own 4")).read_code() == CloseCode.TOO_MANY
        assert dict(node.services.refusals.counts) == {"user_rooms_up": 2}
        assert (await eve.ask(type="join", room="own 3"))["type"] == "joined"
        assert (await ann.ask(type="join", room="own 3"))["type"] == "joined"
        # A room counts until it is gone from memory, and not for as long as its opener stays.
        await eve.ask(type="join", room="own 2")
        await too.connection.aclose()
        await trio.sleep(200)
        assert (await ann.ask(type="join", room="own 5"))["code"] == "rate_limited"
        await eve.ask(type="leave", room="own 2")
        assert (await ann.ask(type="join", room="own 5"))["code"] == "rate_limited"
        await trio.sleep(200)
        assert (await ann.ask(type="join", room="own 5"))["type"] == "joined"
        assert (await ann.ask(type="join", room="own 6"))["code"] == "rate_limited"


async def test_however_rooms_start_and_stop_their_users_are_charged_for_those_that_are_up(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    chance = random.Random(3)
    limits = {"user_rooms": 3, "rooms": 5, "messages_burst": 10_000, "user_rooms_burst": 10_000}
    async with open_node(limits=limits, room={"idle_seconds": 4}) as node:
        clients = [await node.client(user) for user in ("ann", "ann", "bob")]
        for _ in range(300):
            kind = chance.choice(["join", "join", "leave"])
            await chance.choice(clients).ask(type=kind, room=f"r{chance.randrange(9)}")
            await trio.sleep(chance.choice([0, 0, 3]))
        for client in clients:
            for number in range(9):
                await client.ask(type="leave", room=f"r{number}")
        await trio.sleep(100)
        assert node.rooms.statistics().rooms == 0
        refusals = node.services.refusals.counts
        assert refusals["user_rooms_up"] > 0
        assert refusals["rooms_full"] > 0
        # Nothing is left of all that: each user has three places again.
        for user in ("ann", "bob"):
            client = await node.client(user)
            answers = [await client.ask(type="join", room=f"{user} {number}") for number in range(4)]
            assert [answer.get("code") for answer in answers] == [None] * 3 + ["rate_limited"]
            for number in range(4):
                await client.ask(type="leave", room=f"{user} {number}")
            await trio.sleep(100)
