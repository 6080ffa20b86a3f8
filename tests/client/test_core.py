"""The client's decisions, case by case; tests/client/test_core_machine.py mixes them all."""

import json
from itertools import count
from typing import Any

import pytest

from broker.client.core import RESEND_SECONDS, ClientCore
from broker.client.effects import ReconnectLater, RetryLater, RoomChanged, Send, Settle
from broker.client.errors import ConnectionLostError, RefusedError, RemovedError, UnavailableError
from broker.client.pace import PATIENCE_SECONDS
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


def test_the_newest_events_are_asked_for_until_there_is_a_position(core):
    (lost,) = sent([*core.connected(0.0), *core.join("a", None, 0.0, 2)])
    core.disconnected(1006)
    (join,) = sent(core.connected(1.0))
    assert [message.get("last") for message in (lost, join)] == [2, 2]
    core.received(joined(join["id"], 7, messages=[chat(6), chat(7)]), 10, 1.0)
    assert core.rooms["a"].position == Position("e", 7)
    taken = []
    for _ in range(3):
        core.next_message("a", 1.0)
        taken.append(core.rooms["a"].taken)
    assert taken == [Position("e", 5), Position("e", 6), Position("e", 7)]
    core.disconnected(1006)
    (again,) = sent(core.connected(2.0))
    assert (again.get("last"), again["since"]) == (None, {"offset": 7, "epoch": "e"})


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
    core.request(ask("fleeting"), 0.0, "once")
    (settled,) = core.disconnected(1006)
    assert settled.request_id == "fleeting"
    assert isinstance(settled.outcome, ConnectionLostError)
    core.request(ask("not sent"), 0.0, "once")
    (join,) = sent(core.connected(0.0))
    assert sent(core.received(joined(join["id"]), 10, 0.0)) == [ask("not sent")]


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
def test_a_join_that_cannot_be_served_now_is_tried_again_when_the_server_said(core, code):
    (join,) = sent([*core.connected(0.0), *core.join("a", None, 0.0)])
    error = {"type": "error", "code": code, "message": "wait", "retry_after_ms": 2500, "id": join["id"]}
    assert core.received(error, 10, 0.0) == [RetryLater("a", 2.5)]
    assert core.retry("a", 2.0) == []
    assert [message["type"] for message in sent(core.retry("a", 2.5))] == ["join"]
    assert core.retry("a", 9.0) == [], "one at a time"
    assert core.retry("another", 9.0) == []


def for_now(request_id: str, after_ms: int = 1000, code: str = "rate_limited") -> dict[str, Any]:
    error = {"type": "error", "code": code, "message": "wait", "retry_after_ms": after_ms}
    return {**error, "id": request_id}


def ack(request_id: str) -> dict[str, Any]:
    return {"type": "ack", "id": request_id, "room": "a", "offset": 1, "epoch": "e"}


def test_what_is_refused_for_now_is_sent_when_the_server_said_one_by_one_until_nothing_waits(core):
    enter(core)
    for request_id in ("1", "2", "3"):
        core.request(ask(request_id), 0.0)
    assert core.received(for_now("1", 2000), 10, 0.0) == [RetryLater("a", 2.0)]
    core.received(for_now("2", 1000), 10, 0.0)
    assert core.received(ack("3"), 10, 0.0) == [Settle("3", ack("3"))]
    assert core.request(ask("4"), 1.0) == [], "it waits behind them"
    assert core.retry("a", 1.0) == []
    assert sent(core.retry("a", 2.0)) == [ask("1")]
    assert core.request(ask("5"), 2.0) == []
    for before, after in (("1", "2"), ("2", "4"), ("4", "5")):
        assert sent(core.received(ack(before), 10, 2.0)) == [ask(after)]
    core.received(ack("5"), 10, 2.0)
    for request_id in ("6", "7"):
        assert sent(core.request(ask(request_id), 2.0)) == [ask(request_id)], "nothing waited any more"


def test_a_room_does_not_wait_for_what_is_refused_in_another(core):
    enter(core)
    (join,) = sent(core.join("b", None, 0.0))
    core.received({**joined(join["id"]), "room": "b"}, 10, 0.0)
    core.request(ask("1"), 0.0)
    core.received(for_now("1", code="unavailable"), 10, 0.0)
    assert sent(core.request(ask("2", "b"), 0.0)) == [ask("2", "b")]


def test_who_is_cancelled_does_not_hold_up_those_behind(core):
    enter(core)
    for request_id in ("1", "2"):
        core.request(ask(request_id), 0.0)
        core.received(for_now(request_id), 10, 0.0)
    assert sent(core.retry("a", 1.0)) == [ask("1")]
    assert sent(core.cancel("1", 1.0)) == [ask("2")]
    assert core.cancel("1", 1.0) == []


def test_a_server_that_answers_nothing_for_too_long_is_given_up_on(core):
    enter(core)
    for request_id in ("1", "2"):
        core.request(ask(request_id), 0.0)
    refusal = for_now("1", int(PATIENCE_SECONDS * 1000) - 1000, "unavailable")
    assert core.received(refusal, 10, 0.0) == [RetryLater("a", PATIENCE_SECONDS - 1)]
    core.received(for_now("2", 1, "unavailable"), 10, 0.0)
    assert sent(core.retry("a", PATIENCE_SECONDS - 1)) == [ask("1")]
    settled = core.received(for_now("1", 2000, "unavailable"), 10, PATIENCE_SECONDS - 1)
    assert [effect.request_id for effect in settled] == ["1", "2"]
    for effect in settled:
        assert isinstance(effect.outcome, UnavailableError)
        assert effect.outcome.idempotency_key == effect.request_id
        assert effect.outcome.retry_after_seconds == 2.0


def test_a_server_that_answers_now_and_then_is_waited_for(core):
    enter(core)
    for now in range(0, 1000, 200):
        core.request(ask(f"{now}"), now)
        assert core.received(for_now(f"{now}", 100_000), 10, now) == [RetryLater("a", 100.0)]
        assert sent(core.retry("a", now + 100)) == [ask(f"{now}")]
        core.received(ack(f"{now}"), 10, now + 100)


def test_a_new_connection_knows_nothing_of_what_was_refused_on_the_last(core):
    enter(core)
    core.request(ask("kept"), 0.0)
    core.request(ask("fleeting"), 0.0, "once")
    core.received(for_now("kept", 100_000), 10, 0.0)
    core.received(for_now("fleeting", 100_000), 10, 0.0)
    (settled,) = core.disconnected(1006)
    assert settled.request_id == "fleeting"
    assert isinstance(settled.outcome, ConnectionLostError)
    (join,) = sent(core.connected(1.0))
    assert sent(core.received(joined(join["id"]), 10, 1.0)) == [ask("kept")]


def test_what_was_refused_for_now_is_not_in_doubt(core):
    """Nobody knows only of what was under way with the connection, or was unavailable."""
    enter(core)
    for code in ("rate_limited", "unavailable"):
        core.request(ask(code), 0.0)
    for code in ("rate_limited", "unavailable"):
        core.received(for_now(code, code=code), 10, 0.0)
    core.disconnected(1006)
    (join,) = sent(core.connected(RESEND_SECONDS + 1))
    effects = core.received(joined(join["id"]), 10, RESEND_SECONDS + 1)
    assert sent(effects) == [ask("rate_limited")]
    (settled,) = [effect for effect in effects if isinstance(effect, Settle)]
    assert settled.request_id == "unavailable"
    assert isinstance(settled.outcome, ConnectionLostError)


def test_a_question_may_be_asked_again_whenever(core):
    enter(core)
    core.request(ask(), 0.0, "ask")
    core.disconnected(1006)
    (join,) = sent(core.connected(10_000.0))
    assert sent(core.received(joined(join["id"]), 10, 10_000.0)) == [ask()]


def test_a_room_that_was_left_meanwhile_is_not_waited_for(core):
    enter(core)
    core.request(ask(), 0.0)
    core.leave("a")
    (settled,) = core.received(for_now("r1"), 10, 0.0)
    assert isinstance(settled.outcome, RefusedError)


def test_a_leave_that_is_refused_for_now_is_sent_again(core):
    enter(core)
    (leave,) = sent(core.leave("a"))
    assert core.received(for_now(leave["id"]), 10, 0.0) == [RetryLater("a", 1.0)]
    (again,) = sent(core.retry("a", 1.0))
    assert again["type"] == "leave"
    core.received({"type": "left", "room": "a", "id": again["id"]}, 10, 1.0)
    assert core.retry("a", 2.0) == [], "it was answered"


def test_a_leave_is_not_sent_again_once_that_is_no_longer_wanted_or_needed(core):
    enter(core)
    (leave,) = sent(core.leave("a"))
    (join,) = sent(core.join("a", None, 0.0))
    assert core.received(for_now(leave["id"]), 10, 0.0) == []
    core.received(joined(join["id"]), 10, 0.0)
    assert core.retry("a", 1.0) == []
    (leave,) = sent(core.leave("a"))
    core.received({**for_now(leave["id"]), "code": "not_in_room"}, 10, 1.0)
    assert core.retry("a", 2.0) == []


def test_a_room_whose_leave_and_then_join_were_refused_is_left_all_the_same(core):
    enter(core)
    (leave,) = sent(core.leave("a"))
    (join,) = sent(core.join("a", None, 0.0))
    core.received(for_now(leave["id"]), 10, 0.0)
    core.received(for_now(join["id"]), 10, 0.0)
    assert [message["type"] for message in sent(core.leave("a"))] == ["leave"]


def test_a_join_that_is_refused_ends_the_room_and_what_waits_for_it(core):
    (join,) = sent([*core.connected(0.0), *core.join("a", None, 0.0)])
    core.request(ask(), 0.0)
    error = {"type": "error", "code": "forbidden", "message": "no", "id": join["id"]}
    heard, settled = core.received(error, 10, 0.0)
    assert heard == RoomChanged("a")
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
    taken = [core.next_message("a", 0.0)[0] for _ in range(3)]
    assert taken[1:] == [gap, chat(4)]
    assert core.rooms["a"].taken == Position("e", 4)


def test_a_new_epoch_on_the_same_connection_is_followed(core):
    enter(core, offset=100)
    gap = {"type": "gap", "room": "a", "from": 1, "to": 1}
    for message in (gap, chat(2, "f"), chat(3, "f")):
        core.received(message, 10, 0.0)
    assert [core.next_message("a", 0.0)[0] for _ in range(4)][1:] == [gap, chat(2, "f"), chat(3, "f")]
    assert core.rooms["a"].position == Position("f", 3)


def test_a_hole_that_nobody_told_of_is_asked_for(core):
    enter(core)
    (ask,) = sent(core.received(chat(2), 10, 0.0))
    assert ask["since"] == {"offset": 0, "epoch": "e"}
    core.received(chat(3), 10, 0.0)
    missed = [chat(1), chat(2), chat(3)]
    core.received(joined(ask["id"], 3, recovered=True, messages=missed), 10, 0.0)
    taken = [core.next_message("a", 0.0)[0] for _ in range(5)]
    assert [message["type"] for message in taken] == ["joined", "joined", "chat", "chat", "chat"]
    assert taken[2:] == missed


def test_removal_ends_the_room_once_all_was_taken(core):
    enter(core)
    core.received(chat(1), 10, 0.0)
    assert core.received({"type": "left", "room": "a"}, 10, 0.0) == [RoomChanged("a")]
    assert isinstance(core.rooms["a"].error, RemovedError)
    assert core.next_message("a", 0.0)[0]["type"] == "joined"
    assert core.next_message("a", 0.0)[0] == chat(1)


def test_a_wish_to_come_back_is_passed_on(core):
    assert core.received({"type": "reconnect", "after_ms": 1500}, 10, 0.0) == [ReconnectLater(1.5)]


def test_messages_of_other_places_and_types_are_let_pass(core):
    enter(core)
    for message in (
        {"type": "pong"},
        {"type": "chat", "room": "b"},
        {"type": "error", "code": "x", "message": ""},
    ):
        assert core.received(message, 10, 0.0) == []


def error(request_id: str | None = None, **fields: Any) -> dict[str, Any]:
    message = {"type": "error", "code": "invalid_json", "message": "Invalid JSON"} | fields
    return message if request_id is None else message | {"id": request_id}


def outcomes(effects: list[Any]) -> dict[str, Any]:
    return {
        effect.request_id: effect.outcome.code if isinstance(effect.outcome, RefusedError) else "answered"
        for effect in effects
        if isinstance(effect, Settle)
    }


def test_a_refusal_that_does_not_say_of_what_is_of_the_one_that_is_left(core):
    enter(core)
    for name in ("r1", "r2", "r3"):
        core.request(ask(name), 0.0)
    assert core.received(error(), 10, 0.0) == []
    # Nothing more is asked until it is known which it was.
    assert core.request(ask("r4"), 0.0) == []
    assert outcomes(core.received({"type": "ack", "id": "r3"}, 10, 0.0)) == {"r3": "answered"}
    effects = core.received({"type": "ack", "id": "r1"}, 10, 0.0)
    assert outcomes(effects) == {"r1": "answered", "r2": "invalid_json"}
    assert sent(effects) == [ask("r4")]


def test_as_many_refusals_as_are_under_way_are_theirs(core):
    enter(core)
    core.request(ask("r1"), 0.0)
    (join,) = sent(core.join("b", None, 0.0))
    assert core.received(error(), 10, 0.0) == []
    assert outcomes(core.received(error(), 10, 0.0)) == {"r1": "invalid_json"}
    assert core.rooms["b"].error.code == "invalid_json"
    assert join["room"] == "b"


def test_a_refusal_of_nothing_that_is_under_way_holds_nobody_up(core):
    enter(core)
    assert core.received(error(), 10, 0.0) == []
    assert sent(core.request(ask("r1"), 0.0)) == [ask("r1")]
    core.received(error(code="rate_limited", retry_after_ms=500), 10, 0.0)
    assert sent(core.retry("a", 0.5)) == [ask("r1")], "it comes again"
    core.request(ask("r2"), 0.5)
    core.disconnected(1006)
    (join,) = sent(core.connected(1.0))
    assert len(sent(core.received(joined(join["id"]), 10, 1.0))) == 2


def test_events_that_were_replaced_are_not_asked_for(core):
    # As from a room with slow_reader = "latest"; the first gap began before this client joined.
    enter(core, offset=5)
    messages = [{"type": "gap", "room": "a", "from": 4, "to": 8}, chat(9)]
    messages += [{"type": "gap", "room": "a", "from": 10, "to": 12}, chat(13)]
    for message in messages:
        assert sent(core.received(message, 10, 0.0)) == []
    assert [core.next_message("a", 0.0)[0] for _ in range(5)][1:] == messages
    assert core.rooms["a"].position == Position("e", 13)


def test_a_gap_with_its_epoch_stands_where_an_event_would(core):
    enter(core)

    def gap(first: int, last: int, epoch: str = "e") -> list[Any]:
        return core.received({"type": "gap", "room": "a", "from": first, "to": last, "epoch": epoch}, 10, 0.0)

    core.next_message("a", 0.0)
    gap(1, 2)
    gap(2, 2)
    assert core.next_message("a", 0.0)[0]["to"] == 2
    assert core.next_message("a", 0.0)[0] is None, "that was told"
    assert core.rooms["a"].position == Position("e", 2)
    gap(1, 3, "another")
    assert core.rooms["a"].position == Position("another", 3)
    (join,) = sent(gap(5, 5, "another"))
    assert join["since"] == {"offset": 3, "epoch": "another"}


def test_a_result_answers_a_call_and_one_with_a_room_is_an_event(core):
    enter(core)
    core.request({"type": "call", "room": "a", "method": "m", "data": None, "id": "r1"}, 0.0)
    event = {"type": "result", "room": "a", "id": "r1", "data": 1, "offset": 1, "epoch": "e", "time": 5}
    assert core.received(event, 10, 0.0) == [RoomChanged("a")]
    assert core.received({"type": "result", "id": "r2", "data": 2}, 10, 0.0) == []
    answer = {"type": "result", "id": "r1", "data": 2}
    assert core.received(answer, 10, 0.0) == [Settle("r1", answer)]
    core.next_message("a", 0.0)
    assert core.next_message("a", 0.0)[0] == event
