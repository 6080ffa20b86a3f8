"""The decisions of an application, over whole connections in memory: connect, join and publish."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from broker.auth.revocations import Revocation, RevocationKind
from broker.errors import CloseCode
from broker.hooks import Hook
from tests.support.node import Node, OpenNode

Answer = Mapping[str, Any] | Callable[[], Awaitable[Mapping[str, Any]]]


@attrs.define
class Application:
    """Answers as it is told, by the room that it is asked about, and else allows; it notes what it was asked."""

    answers: dict[str | None, Answer] = attrs.Factory(dict)
    asked: list[Mapping[str, Any]] = attrs.Factory(list)
    given_up: int = 0

    async def decide(self, ask: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(ask)
        answer = self.answers.get(ask.get("room"), {"allow": True})
        if isinstance(answer, Mapping):
            return answer
        try:
            return await answer()
        except trio.Cancelled:
            self.given_up += 1
            raise

    def hook(self, *on: str, **options: Any) -> Hook:
        return Hook(self.decide, on, **options)


def revocation_of(user: str, node: Node) -> Revocation:
    return Revocation(RevocationKind.USER, user, node.wall_clock() + 3600)


async def hang() -> Mapping[str, Any]:
    await trio.sleep_forever()
    raise AssertionError


def after(seconds: float, **answer: Any) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    async def wait() -> Mapping[str, Any]:
        await trio.sleep(seconds)
        return {"allow": True, **answer}

    return wait


REFUSED = {"allow": False, "reason": "not your order"}


async def test_a_connection_is_asked_about_with_all_that_the_application_may_know(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application()
    hook = app.hook("connect", "join", headers=["X-Forwarded-For", "absent"], cookies=["session"])
    async with open_node(hooks=[hook]) as node:
        headers = [(b"x-forwarded-for", b"192.0.2.1"), (b"cookie", b'a=b; session="s1"'), (b"x-other", b"z")]
        ann = await node.client("ann", "lobby", headers=headers, info={"name": "Ann"})
        joined = await ann.receive_type("joined")
        connect, join = app.asked
        assert (connect["type"], join["type"]) == ("connect", "join")
        for ask in (connect, join):
            assert ask["claims"]["info"] == {"name": "Ann"}
            assert {key: ask[key] for key in ask if key not in {"type", "claims"}} == {
                "user_id": "ann",
                "connection": joined["connection"],
                "transport": "websocket",
                "address": "10.0.0.1",
                "headers": {"x-forwarded-for": "192.0.2.1"},
                "cookies": {"session": "s1"},
                "room": "lobby",
            }


async def test_a_refused_connection_is_closed_with_the_reason(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    reason = "€" * 50
    app = Application({None: {"allow": False, "reason": reason}})
    async with open_node(hooks=[app.hook("connect")]) as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        close = await peer.read_close()
        assert close == (CloseCode.FORBIDDEN, "€" * 41)
        for code, expected in (
            ("unavailable", CloseCode.TRY_AGAIN_LATER),
            ("rate_limited", CloseCode.TOO_MANY),
        ):
            app.answers[None] = {"allow": False, "code": code}
            peer = await node.raw_peer(node.target(token=node.token("ann")))
            assert await peer.read_close() == (expected, "refused by the application")
        await trio.sleep(10)
        assert node.is_empty()
        assert {line["why"] for line in node.refusals()} == {"hook"}


async def test_the_answer_to_connect_adds_info_rooms_and_an_expiry(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({None: {"allow": True, "info": {"name": "A"}, "auto_join": ["news"]}})
    async with open_node(hooks=[app.hook("connect")], heartbeat_seconds=1) as node:
        app.answers[None] = {**app.answers[None], "expires_at": node.wall_clock() + 60}
        ann = await node.client("ann", info={"name": "from the token"}, auto_join=["mine"])
        assert [(await ann.receive_type("joined"))["room"] for _ in range(2)] == ["mine", "news"]
        await ann.send(type="chat", room="news", text="x")
        assert (await ann.receive_type("chat"))["info"] == {"name": "A"}
        # A new token lives longer, but the connection does not, and still shows what the application said.
        refreshed = await ann.ask(type="refresh", token=node.token("ann", info={"name": "newer"}))
        assert refreshed["expires_at"] == node.wall_clock() // 1 + 60
        assert not [message for message in await ann.settle() if message["type"] == "presence_update"]
        assert await ann.read_code() == CloseCode.TOKEN_EXPIRED


async def test_the_expiry_of_the_token_comes_first_if_it_is_sooner(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application()
    async with open_node(hooks=[app.hook("connect")], heartbeat_seconds=1) as node:
        app.answers[None] = {"allow": True, "expires_at": node.wall_clock() + 3600}
        ann = await node.client("ann", ttl_seconds=30)
        with trio.fail_after(40):
            assert await ann.read_code() == CloseCode.TOKEN_EXPIRED


async def test_rooms_that_the_application_adds_are_bound_by_the_token(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({None: {"allow": True, "auto_join": ["secret"]}})
    async with open_node(hooks=[app.hook("connect")]) as node:
        ann = await node.client("ann", rooms=["lobby"])
        assert await ann.read_code() == CloseCode.FORBIDDEN


async def test_a_token_that_is_taken_back_while_the_application_thinks_lets_nobody_in(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({None: after(1.0)})
    async with open_node(hooks=[app.hook("connect")]) as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await trio.sleep(0.5)
        await node.assembly.http.revocations.revoke(revocation_of("ann", node))
        close = await peer.read_close()
        assert close == (CloseCode.UNAUTHORIZED, "token was revoked")
        await trio.sleep(10)
        assert node.is_empty()


async def test_a_member_hears_nothing_before_the_application_allows_its_join(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"order-5": REFUSED, "order-6": after(1.0), "order-7": hang})
    async with open_node(hooks=[app.hook("join", rooms=["order-*"])]) as node:
        others = [await node.member("bob", "order-6")]
        ann = await node.client("ann")
        refused = await ann.ask(type="join", room="order-5")
        assert (refused["code"], refused["message"]) == ("forbidden", "not your order")
        assert "retry_after_ms" not in refused
        started = trio.current_time()
        await ann.send(type="join", room="order-7", id="hangs")
        await ann.send(type="join", room="order-6", id="slow")
        await ann.send(type="join", room="lobby", id="free")
        assert (await ann.receive())["id"] == "free", "no other room waits"
        assert trio.current_time() - started < 0.1
        await others[0].ask(type="chat", room="order-6", text="before")
        joined = await ann.receive_type("joined")
        assert (joined["id"], joined["offset"], joined["messages"]) == ("slow", 1, [])
        away = await ann.receive_type("error")
        assert (away["id"], away["code"]) == ("hangs", "unavailable")
        assert away["retry_after_ms"] >= 1000
        assert trio.current_time() - started < 2.1
        assert not [
            m for m in await others[0].settle() if m["type"] == "user_joined" and m["user_id"] != "ann"
        ]


async def test_a_refused_second_join_is_no_leave(open_node: OpenNode, autojump_clock: MockClock) -> None:
    app = Application()
    async with open_node(hooks=[app.hook("join")]) as node:
        bob, ann = await node.member("bob", "order-5"), await node.member("ann", "order-5")
        await bob.settle()
        for answer in (REFUSED, hang):
            app.answers["order-5"] = answer
            assert (await ann.ask(type="join", room="order-5"))["type"] == "error"
        assert (await ann.ask(type="chat", text="still here"))["type"] == "ack"
        assert [message["type"] for message in await bob.settle()] == ["chat"]


async def test_a_refused_room_of_the_address_or_of_the_token_closes_with_the_reason(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"order-5": REFUSED})
    async with open_node(hooks=[app.hook("join")]) as node:
        for target in (
            node.target("order-5", token=node.token("ann")),
            node.target(token=node.token("ann", auto_join=["a", "order-5"])),
        ):
            peer = await node.raw_peer(target)
            assert await peer.read_close() == (CloseCode.FORBIDDEN, "not your order")
        app.answers["order-5"] = hang
        peer = await node.raw_peer(node.target("order-5", token=node.token("ann")))
        assert await peer.read_code() == CloseCode.TRY_AGAIN_LATER


async def test_the_rooms_of_a_token_are_asked_about_together(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    rooms = [f"r{number}" for number in range(16)]
    app = Application({room: after(1.0) for room in rooms})
    async with open_node(hooks=[app.hook("join")]) as node:
        started = trio.current_time()
        ann = await node.client("ann", auto_join=rooms)
        assert [(await ann.receive_type("joined"))["room"] for _ in rooms] == rooms
        assert trio.current_time() - started < 2.5


async def test_a_message_is_changed_or_refused_before_the_room_gets_it(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application()
    async with open_node(hooks=[app.hook("publish", rooms=["shop*"])], limits={"text_characters": 5}) as node:
        bob, ann = await node.member("bob", "shop"), await node.member("ann", "shop")
        await bob.settle()
        assert (await ann.ask(type="chat", text="too long"))["type"] == "ack"
        assert app.asked[-1]["message"] == {"type": "chat", "text": "too l"}
        chat = await bob.receive_type("chat")
        assert (chat["text"], chat["truncated"]) == ("too l", True)
        app.answers["shop"] = {"allow": True, "message": {"text": "*****"}}
        choice = {"tags": {"kind": "talk"}, "echo": False}
        assert (await ann.ask(type="chat", text="damn", id=7, **choice))["offset"] == 2
        assert app.asked[-1]["message"] == {"type": "chat", "text": "damn", **choice}
        chat = await bob.receive_type("chat")
        assert (chat["text"], chat["tags"]) == ("*****", {"kind": "talk"}), "all but the text is as it was"
        app.answers["shop"] = {"allow": True, "message": {"data": {"price": 2}}}
        await ann.ask(type="publish", event="offer", data={"price": 1}, id="offer", **choice)
        assert [
            message["type"] for message in await ann.settle() if "text" in message or "data" in message
        ] == []
        assert app.asked[-1]["message"] == {
            "type": "publish",
            "event": "offer",
            "data": {"price": 1},
            "ephemeral": False,
            **choice,
        }
        event = await bob.receive_type("event")
        assert (event["event"], event["data"], event["tags"]) == ("offer", {"price": 2}, {"kind": "talk"})
        app.answers["shop"] = REFUSED
        refused = await ann.ask(type="chat", text="x")
        assert (refused["code"], refused["message"]) == ("forbidden", "not your order")
        await ann.send(type="chat", text="x")
        assert (await ann.receive_type("error"))["message"] == "not your order"
        assert await bob.settle() == []
        # Those that no hook is for, and those that would be refused anyway, are not asked about.
        count = len(app.asked)
        assert (await ann.ask(type="join", room="lobby"))["type"] == "joined"
        assert (await ann.ask(type="chat", room="lobby", text="x"))["type"] == "ack"
        assert (await ann.ask(type="chat", room="shop 2", text="x"))["code"] == "not_in_room"
        mute = await node.client("mute", "shop", can=["join"])
        assert (await mute.ask(type="chat", text="x"))["code"] == "forbidden"
        assert (await ann.ask(type="publish", event="e", data=2**64))["type"] == "error"
        assert len(app.asked) == count


@pytest.mark.parametrize("tags", [{"kind": "checked"}, {}, None])
@pytest.mark.parametrize(
    "message", [{"type": "chat", "text": "too long"}, {"type": "publish", "event": "e", "data": 1}]
)
async def test_an_answer_may_change_the_tags_of_a_message(
    open_node: OpenNode, autojump_clock: MockClock, message: dict[str, Any], tags: dict[str, str] | None
) -> None:
    app = Application({"shop": {"allow": True, "message": {"tags": tags, "event": None, "text": "too l"}}})
    async with open_node(hooks=[app.hook("publish")], limits={"text_characters": 5}) as node:
        ann, bob = await node.member("ann", "shop"), await node.member("bob", "shop")
        carl = await node.client("carl")
        await carl.ask(type="join", room="shop", tags={"kind": ["checked"]})
        for client in (ann, bob, carl):
            await client.settle()
        given = {"kind": "talk"}
        await ann.ask(**message, tags=given, echo=False)
        event = await bob.receive_type("chat" if message["type"] == "chat" else "event")
        expected = given if tags is None else tags
        assert event.get("tags", {}) == expected
        assert event.get("truncated", False) is (message["type"] == "chat"), "its text was cut, and stays it"
        received = [m["tags"] for m in await carl.settle() if m["type"] == event["type"]]
        assert received == ([expected] if expected == {"kind": "checked"} else []), "filters see the new tags"
        assert event["type"] not in [m["type"] for m in await ann.settle()], "her echo stays off"


async def test_what_comes_behind_a_waiting_message_in_its_room_waits_and_nothing_else(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"slow": after(1.0)})
    async with open_node(hooks=[app.hook("publish")]) as node:
        ann = await node.member("ann", "slow")
        assert (await ann.ask(type="join", room="fast"))["type"] == "joined"
        bob = await node.member("bob", "slow")
        carl = await node.member("carl", "slow")
        await ann.settle()
        started = trio.current_time()
        await ann.send(type="chat", text="1", id=1)
        await ann.send(type="presence", id=2)
        await ann.send(type="chat", text="2", id=3)
        await ann.send(type="leave", id=4)
        await ann.send(type="chat", text="3", id=5)
        await ann.send(type="ping", id=6)
        await ann.send(type="chat", room="fast", text="x", id=7)
        answers = []
        while len(answers) < 7:
            message = await ann.receive()
            if "id" in message:
                answers.append((message["id"], message["type"], round(trio.current_time() - started)))
        # The room answers a leave itself.
        assert sorted(answers, key=lambda answer: answer[2]) == [
            (6, "pong", 0),
            (7, "ack", 0),
            (1, "ack", 1),
            (2, "presence", 1),
            (3, "ack", 2),
            *sorted([(4, "left", 2), (5, "error", 2)], key=answers.index),
        ]
        assert [m["text"] for m in await bob.settle() if m["type"] == "chat"] == ["1", "2"]
        # The messages of two connections wait side by side.
        started = trio.current_time()
        await bob.send(type="chat", text="b", id=1)
        await carl.send(type="chat", text="c", id=1)
        for client in (bob, carl):
            assert (await client.receive_type("ack"))["id"] == 1
        assert trio.current_time() - started < 1.5


async def test_too_many_waiting_messages_of_a_room_are_refused_for_now(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"slow": after(1.0)})
    async with open_node(hooks=[app.hook("publish")]) as node:
        ann = await node.member("ann", "slow")
        for number in range(150):
            await ann.send(type="chat", text="x", id=number)
        refused = [message for message in await ann.settle() if message["type"] == "error"]
        assert [message["id"] for message in refused] == list(range(128, 150))
        assert {(message["code"], message["retry_after_ms"]) for message in refused} == {
            ("rate_limited", 1000)
        }


async def test_messages_that_came_before_the_close_are_published_if_the_answer_comes_in_time(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"slow": after(1.0)})
    async with open_node(hooks=[app.hook("publish")]) as node:
        bob, ann = await node.member("bob", "slow"), await node.member("ann", "slow")
        await bob.settle()
        for number in range(5):
            await ann.send(type="chat", text=f"{number}")
        nothing: list[Mapping[str, Any]] = await bob.settle()
        assert nothing == []
        await ann.aclose()
        texts = [m.get("text", m["type"]) for m in [await bob.receive() for _ in range(3)]]
        assert texts in (["0", "1", "user_left"], ["0", "user_left"])
        await bob.aclose()
        await trio.sleep(10)
        assert node.is_empty()


async def test_a_session_that_ends_gives_its_questions_up(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({"slow": hang, "order": hang})
    async with open_node(hooks=[app.hook("publish", "join", rooms=["slow", "order"])]) as node:
        app.answers = {}
        bob = await node.member("bob", "slow")
        for how in ("removed", "cut", "revoked"):
            app.answers, app.given_up = {}, 0
            ann = await node.member("ann", "slow")
            await bob.settle()
            app.answers = {"slow": hang, "order": hang}
            await ann.send(type="chat", text="lost")
            await ann.send(type="chat", text="lost too")
            await ann.send(type="join", room="order")
            await ann.settle()
            if how == "removed":
                node.connections.disconnect_user("ann", CloseCode.REMOVED, "gone")
                assert await ann.read_code() == CloseCode.REMOVED
            elif how == "revoked":
                await node.assembly.http.revocations.revoke(revocation_of("ann", node))
                assert await ann.read_code() == CloseCode.UNAUTHORIZED
            else:
                await trio.aclose_forcefully(ann.stream)
                await trio.sleep(5)
            # A lost connection is one that its peer has ended: what came before has the time of one decision.
            assert app.given_up == (3 if how == "cut" else 2)
            assert [message["type"] for message in await bob.settle()] == ["user_left"]
            assert len(node.connections) == 1


async def test_an_application_that_is_away_may_let_all_through(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    app = Application({None: hang, "lobby": hang})
    hook = app.hook("connect", "join", "publish", when_away="allow", timeout_seconds=0.5)
    async with open_node(hooks=[hook]) as node:
        ann = await node.member("ann", "lobby", auto_join=["lobby", "news"])
        for _ in range(6):
            assert (await ann.ask(type="chat", text="x"))["type"] == "ack"
        # It is not asked any more, so nobody waits for it.
        started = trio.current_time()
        for number in range(20):
            assert (await ann.ask(type="chat", text="x", id=number))["type"] == "ack"
        assert trio.current_time() - started < 0.1
        lines = [line["event"] for line in node.log_lines() if line["event"].startswith("hook")]
        assert lines == ["hook failed", "hook away"]
        app.answers = {}
        await trio.sleep(2)
        assert (await ann.ask(type="chat", text="x", id="back"))["type"] == "ack"
        assert next(line for line in node.log_lines() if line["event"] == "hook back")["away_seconds"] >= 2


async def test_a_raise_or_rubbish_of_the_program_concerns_its_question_alone(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async def fail() -> Mapping[str, Any]:
        raise ValueError("secret detail")

    rubbish: Sequence[Any] = [
        None,
        5,
        "x",
        [],
        {},
        {"allow": "yes"},
        {"allow": True, "info": 1},
        {1: object()},
    ]
    app = Application()
    async with open_node(hooks=[app.hook("join")]) as node:
        ann = await node.client("ann")
        for number, answer in enumerate([fail, *rubbish]):

            async def give(answer: Any = answer) -> Any:
                return await answer() if callable(answer) else answer

            app.answers["a"] = give
            refused = await ann.ask(type="join", room="a", id=number)
            assert (refused["code"], refused["message"]) == ("unavailable", "the application does not answer")
            app.answers["a"] = {"allow": True}
            assert (await ann.ask(type="join", room="b", id="again"))["type"] == "joined"
