"""What the client decides, case by case; tests/client/test_core_machine.py mixes them all."""

import json
from itertools import count
from typing import Any

import pytest

from broker.client.core import RESEND_SECONDS, ClientCore
from broker.client.effects import ComeBack, Heard, Send, Settle, TryJoin
from broker.client.errors import ConnectionLostError, RefusedError, RemovedError
from broker.model import Position


@pytest.fixture
def core() -> ClientCore:
    numbers = count(1)
    return ClientCore(lambda: f"id{next(numbers)}", 1000)


def sent(effects: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(effect.text) for effect in effects if isinstance(effect, Send)]


def joined(request_id: str, offset: int = 0, **fields: Any) -> dict[str, Any]:
    message = {"type": "joined", "room": "a", "room_size": 1, "offset": offset, "epoch": "e"}
    return {**message, "recovered": False, "messages": [], "id": request_id, **fields}


def chat(offset: int, epoch: str = "e") -> dict[str, Any]:
    return {"type": "chat", "room": "a", "text": "t", "offset": offset, "epoch": epoch}


def enter(core: ClientCore, now: float = 0.0, offset: int = 0) -> None:
    (ask,) = sent([*core.join("a", None, now), *core.connected(now)])
    core.received(joined(ask["id"], offset), 10, now)


def ask(request_id: str = "r1", room: str = "a") -> dict[str, Any]:
    return {"type": "chat", "room": room, "text": "t", "id": request_id}


def test_a_request_waits_for_the_join(core):
    core.join("a", None, 0.0)
    assert sent(core.request(ask(), 0.0)) == []
    (join,) = sent(core.connected(0.0))
    assert join["type"] == "join"
    assert sent(core.received(joined(join["id"]), 10, 0.0)) == [ask()]
    ack = {"type": "ack", "id": "r1", "room": "a", "offset": 1, "epoch": "e"}
    assert core.received(ack, 10, 0.0) == [Settle("r1", ack)]
    assert core.received(ack, 10, 0.0) == [], "once"


def test_an_answer_to_an_earlier_join_is_not_taken_for_this_one(core):
    (first,) = sent([*core.connected(0.0), *core.join("a", None, 0.0)])
    assert [message["type"] for message in sent(core.leave("a"))] == ["leave"]
    (second,) = sent(core.join("a", None, 0.0))
    assert core.received(joined(first["id"], 7), 10, 0.0) == []
    assert core.rooms["a"].joined is None
    core.received({"type": "left", "room": "a", "id": "id2"}, 10, 0.0)
    core.received(joined(second["id"], 8), 10, 0.0)
    assert core.rooms["a"].position == Position("e", 8)


def test_what_was_sent_too_long_ago_is_not_sent_again(core):
    enter(core)
    core.request(ask("old"), 0.0)
    core.request(ask("new"), 100.0)
    core.disconnected(1006)
    (join,) = sent(core.connected(RESEND_SECONDS + 50))
    effects = core.received(joined(join["id"]), 10, RESEND_SECONDS + 50)
    assert sent(effects) == [ask("new")]
    (settled,) = [effect for effect in effects if isinstance(effect, Settle)]
    assert settled.request_id == "old"
    assert isinstance(settled.outcome, ConnectionLostError)


def test_what_was_never_sent_may_wait_for_ever(core):
    core.join("a", None, 0.0)
    core.request(ask(), 0.0)
    (join,) = sent(core.connected(10_000.0))
    assert sent(core.received(joined(join["id"]), 10, 10_000.0)) == [ask()]


def test_what_may_not_be_repeated_fails_with_the_connection_if_it_was_sent(core):
    enter(core)
    core.request(ask("fleeting"), 0.0, is_repeatable=False)
    (settled,) = core.disconnected(1006)
    assert settled.request_id == "fleeting"
    assert isinstance(settled.outcome, ConnectionLostError)
    core.request(ask("not sent"), 0.0, is_repeatable=False)
    (join,) = sent(core.connected(0.0))
    assert sent(core.received(joined(join["id"]), 10, 0.0)) == [ask("not sent")]


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
def test_a_join_that_cannot_be_served_now_is_tried_again_when_the_server_said(core, code):
    (join,) = sent([*core.connected(0.0), *core.join("a", None, 0.0)])
    error = {"type": "error", "code": code, "message": "wait", "retry_after_ms": 2500, "id": join["id"]}
    assert core.received(error, 10, 0.0) == [TryJoin("a", 2.5)]
    assert core.retry_join("a", 2.0) == []
    assert [message["type"] for message in sent(core.retry_join("a", 2.5))] == ["join"]
    assert core.retry_join("a", 9.0) == [], "one at a time"
    assert core.retry_join("another", 9.0) == []


def test_a_join_that_is_refused_ends_the_room_and_what_waits_for_it(core):
    (join,) = sent([*core.connected(0.0), *core.join("a", None, 0.0)])
    core.request(ask(), 0.0)
    error = {"type": "error", "code": "forbidden", "message": "no", "id": join["id"]}
    heard, settled = core.received(error, 10, 0.0)
    assert heard == Heard("a")
    assert isinstance(settled.outcome, RefusedError)
    assert core.connected(1.0) == [], "it is not asked again"
    (late,) = core.request(ask("late"), 1.0)
    assert isinstance(late.outcome, RefusedError)


def test_the_largest_of_those_under_way_is_taken_to_be_the_one_that_was_too_big(core):
    enter(core)
    core.request(ask("small"), 0.0)
    core.request({**ask("large"), "text": "x" * 100}, 0.0)
    (settled,) = core.disconnected(1009)
    assert settled.request_id == "large"
    assert isinstance(settled.outcome, RefusedError)


def test_a_request_for_a_room_that_nobody_is_in_fails(core):
    (settled,) = core.request(ask(), 0.0)
    assert isinstance(settled.outcome, RemovedError)


def test_leaving_fails_what_was_not_sent(core):
    core.join("a", None, 0.0)
    core.request(ask(), 0.0)
    (settled,) = core.leave("a")
    assert isinstance(settled.outcome, RemovedError)


def test_an_id_in_use_is_refused(core):
    core.join("a", None, 0.0)
    core.request(ask(), 0.0)
    with pytest.raises(ValueError, match="waits"):
        core.request(ask(), 0.0)


def test_a_gap_is_passed_on_and_gone_on_behind(core):
    enter(core)
    gap = {"type": "gap", "room": "a", "from": 1, "to": 3}
    for message in (gap, chat(4)):
        core.received(message, 10, 0.0)
    taken = [core.take("a", 0.0)[0] for _ in range(3)]
    assert taken[1:] == [gap, chat(4)]
    assert core.rooms["a"].taken == Position("e", 4)


def test_a_new_epoch_on_the_same_connection_is_followed(core):
    enter(core, offset=100)
    gap = {"type": "gap", "room": "a", "from": 1, "to": 1}
    for message in (gap, chat(2, "f"), chat(3, "f")):
        core.received(message, 10, 0.0)
    assert [core.take("a", 0.0)[0] for _ in range(4)][1:] == [gap, chat(2, "f"), chat(3, "f")]
    assert core.rooms["a"].position == Position("f", 3)


def test_a_hole_that_nobody_told_of_is_asked_for(core):
    enter(core)
    (ask,) = sent(core.received(chat(2), 10, 0.0))
    assert ask["since"] == {"offset": 0, "epoch": "e"}
    core.received(chat(3), 10, 0.0)
    missed = [chat(1), chat(2), chat(3)]
    core.received(joined(ask["id"], 3, recovered=True, messages=missed), 10, 0.0)
    taken = [core.take("a", 0.0)[0] for _ in range(5)]
    assert [message["type"] for message in taken] == ["joined", "joined", "chat", "chat", "chat"]
    assert taken[2:] == missed


def test_removal_ends_the_room_once_all_was_taken(core):
    enter(core)
    core.received(chat(1), 10, 0.0)
    assert core.received({"type": "left", "room": "a"}, 10, 0.0) == [Heard("a")]
    assert isinstance(core.rooms["a"].error, RemovedError)
    assert core.take("a", 0.0)[0]["type"] == "joined"
    assert core.take("a", 0.0)[0] == chat(1)


def test_a_wish_to_come_back_is_passed_on(core):
    assert core.received({"type": "reconnect", "after_ms": 1500}, 10, 0.0) == [ComeBack(1.5)]


def test_messages_of_other_places_and_types_are_let_pass(core):
    enter(core)
    for message in (
        {"type": "pong"},
        {"type": "chat", "room": "b"},
        {"type": "error", "code": "x", "message": ""},
    ):
        assert core.received(message, 10, 0.0) == []
