"""Turns of rooms with code, as members and services notice them."""

import re
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from broker.errors import Refused
from broker.room_actors import Member, Message, MessageKind, Refusal, RoomActor, Task, call
from broker.testing import RefusedError, open_test_broker


class Count(msgspec.Struct):
    total: int = 0
    seen: list[str] = []


class Added(msgspec.Struct):
    total: int
    by: str | None


class Counter(RoomActor[Count], pattern="count.*"):
    """Counts, and fails in each way that code can fail."""

    turn_seconds = 2.0

    @call
    async def add(self, sender: Member | None, points: int = 1) -> Added:
        self.state.total += points
        by = None if sender is None else sender.user_id
        self.say({"type": "added", "total": self.state.total})
        return Added(self.state.total, by)

    @call
    async def total(self, sender: Member | None) -> int:
        return self.state.total

    @call(name="add-and-refuse")
    async def add_and_refuse(self, sender: Member | None) -> None:
        self.state.total += 1
        self.say({"type": "never"})
        self.set_timer("never", 1)
        raise Refusal("not today", retry_after_ms=5)

    @call
    async def add_and_fail(self, sender: Member | None) -> None:
        self.state.total += 1
        self.say({"type": "never"})
        raise ZeroDivisionError("a fault in the application")

    @call
    async def add_and_wait(self, sender: Member | None, seconds: float) -> None:
        self.state.total += 1
        await trio.sleep(seconds)

    @call
    async def grow(self, sender: Member | None, characters: int) -> None:
        self.state.seen.append("x" * characters)

    @call
    async def work(self, sender: Member | None, seconds: float) -> str:
        async def work() -> str:
            await trio.sleep(seconds)
            if seconds > 5:
                raise ValueError("too much work")
            return f"worked for {seconds:g}"

        self.spawn("work", work)
        return "begun"

    async def on_task(self, task: Task) -> None:
        self.say({"type": "worked", "value": task.value, "error": repr(task.error)})


async def test_a_turn_is_stored_told_to_all_and_answered(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        ben = await world.join("count.1", user="ben")
        assert await ann.call("add", 3) == {"total": 3, "by": "ann"}
        assert await ben.call("add") == {"total": 4, "by": "ben"}
        assert [each["total"] for each in ben.of_type("added")] == [3, 4]
        assert ann.of_type("added") == ben.of_type("added")
        assert [each["offset"] for each in ann.of_type("added")] == [1, 2]
        assert await world.state("count.1") == {"total": 4, "seen": []}
        assert await world.call("count.1", "add", 10) == {"total": 14, "by": None}


@pytest.mark.parametrize("data", ["3", 1.5, None, [1], {"points": 1}])
async def test_an_argument_of_another_type_never_reaches_the_code(
    autojump_clock: MockClock, data: object
) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        with pytest.raises(RefusedError) as refused:
            await ann.call("add", data)
        assert refused.value.code == "invalid_message"
        assert "data: Expected `int`" in str(refused.value)
        assert await ann.call("total") == 0


async def test_methods_that_are_not_marked_cannot_be_called(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        for method in ("on_task", "say", "add_and_refuse", "__init__", "nothing"):
            with pytest.raises(RefusedError, match="this room has no"):
                await ann.call(method)


async def test_a_plain_room_refuses_calls(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("lobby", user="ann")
        with pytest.raises(RefusedError, match="nothing answers calls"):
            await ann.call("add")
        with pytest.raises(Refused, match="nothing answers calls"):
            await world.call("lobby", "add")


async def test_a_refused_turn_leaves_no_trace(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        with pytest.raises(RefusedError) as refused:
            await ann.call("add-and-refuse")
        assert refused.value.code == "forbidden"
        assert refused.value.retry_after_ms == 5
        await world.pass_time(2)
        assert await ann.call("total") == 0
        assert not ann.of_type("never")
        with pytest.raises(Refused, match="not today"):
            await world.call("count.1", "add-and-refuse")


@pytest.mark.parametrize("method", ["code", "reason", "text", "time"])
async def test_a_refusal_that_cannot_be_one_is_a_failure_that_names_the_line(
    autojump_clock: MockClock, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([Misrefusing]) as world:
        ann = await world.join("refuse", user="ann")
        with trio.fail_after(5), pytest.raises(RefusedError) as refused:
            await ann.call(method)
        assert refused.value.code == "failed"
        with pytest.raises(Refused) as refused_service:
            await world.call("refuse", method)
        assert refused_service.value.code == "failed"
        await world.pass_time(0)
        assert "in on_call" in caplog.text
        assert ann.closed_with is None


class Misrefusing(RoomActor[None], pattern="refuse"):
    async def on_call(self, sender: Member | None, method: str, data: msgspec.Raw | None) -> None:
        match method:
            case "code":
                raise Refusal("short and stout", code="teapot")  # type: ignore[arg-type]
            case "reason":
                raise Refusal(5)  # type: ignore[arg-type]
            case "text":
                raise Refusal("\ud800")
            case _:
                raise Refusal("later", retry_after_ms="soon")  # type: ignore[arg-type]


async def test_a_turn_that_raises_leaves_no_trace_and_the_room_goes_on(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        await ann.call("add", 5)
        with pytest.raises(RefusedError) as refused:
            await ann.call("add_and_fail")
        assert refused.value.code == "failed"
        assert "ZeroDivisionError" not in str(refused.value)
        assert await ann.call("add") == {"total": 6, "by": "ann"}
        assert not ann.of_type("never")
        assert ann.closed_with is None


async def test_a_turn_that_takes_too_long_is_cancelled_and_has_not_happened(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        await ann.call("add_and_wait", 1.9)
        with pytest.raises(RefusedError) as refused:
            await ann.call("add_and_wait", 2.1)
        assert refused.value.code == "failed"
        assert await ann.call("total") == 1
        assert "in a turn: call add_and_wait" in caplog.text
        assert re.search(r"took over 2 seconds, at test_turns.py:\d+ in add_and_wait", caplog.text)


async def test_a_state_beyond_its_limit_is_a_failed_turn(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        await ann.call("grow", 200_000)
        with pytest.raises(RefusedError) as refused:
            await ann.call("grow", 100_000)
        assert refused.value.code == "failed"
        assert len((await world.state("count.1"))["seen"]) == 1


async def test_a_turn_that_cannot_be_stored_has_not_happened(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        await ann.call("add")
        with world.engine_unavailable():
            for method in ("add", "add_and_wait"):
                with pytest.raises(RefusedError) as refused:
                    await ann.call(method, 1)
                assert refused.value.code == "unavailable"
                assert refused.value.retry_after_ms
        assert await ann.call("total") == 1
        assert len(ann.of_type("added")) == 1


async def test_a_room_that_fails_again_and_again_is_given_up_and_begins_anew(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        await ann.call("add", 7)
        for _ in range(6):
            with pytest.raises((RefusedError, ConnectionError)):
                await ann.call("add_and_fail")
        await world.pass_time(1)
        assert ann.closed_with == 1011
        again = await world.join("count.1", user="ann")
        assert await again.call("total") == 7


async def test_a_call_with_an_id_is_done_once_also_after_the_server_was_killed(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        for _ in range(2):
            assert (await ann.call("add", 2, request_id="a"))["total"] == 2
        assert (await ann.call("add", 2, request_id="b"))["total"] == 4
        await world.kill()
        await world.start()
        ann = await world.join("count.1", user="ann")
        assert (await ann.call("add", 2, request_id="a"))["total"] == 2
        assert (await ann.call("total")) == 4
        assert (await world.call("count.1", "add", 1, request_id="a"))["total"] == 5
        # Another user's id, and a message's, are others.
        ben = await world.join("count.1", user="ben")
        assert (await ben.call("add", 1, request_id="a"))["total"] == 6
        ack = await ann.chat("hello", request_id="a")
        assert ack["type"] == "ack"
        assert await ann.chat("hello again", request_id="a") == ack
        assert len(ann.of_type("chat")) == 1


async def test_a_task_runs_beside_the_room_and_its_end_is_a_turn(autojump_clock: MockClock) -> None:
    async with open_test_broker([Counter]) as world:
        ann = await world.join("count.1", user="ann")
        assert await ann.call("work", 4) == "begun"
        assert await ann.call("work", 6) == "begun"
        assert (await ann.call("add"))["total"] == 1
        await world.pass_time(7)
        worked = ann.of_type("worked")
        assert [each["value"] for each in worked] == ["worked for 4", None]
        assert worked[1]["error"] == "ValueError('too much work')"


async def answer(text: str) -> str:
    return text


class Spawning(RoomActor[None], pattern="spawn"):
    """Starts what can be a task, and what cannot; it has no on_task."""

    @call
    async def start(self, sender: Member | None, what: str) -> str:
        functions: dict[str, Any] = {
            "failing": self.fail,
            "bound by partial": partial(answer, "done"),
            "a callable object": Answering(),
        }
        if what in functions:
            self.spawn(what, functions[what])
            return "begun"
        wrong: dict[str, Any] = {
            "a sync function": lambda: 5,
            "a coroutine": answer("never"),
            "no function": None,
        }
        try:
            self.spawn(what, wrong[what])
        except TypeError as error:
            return str(error)
        finally:
            wrong["a coroutine"].close()
        return "begun"

    async def fail(self) -> None:
        raise ZeroDivisionError("in a task")


class Answering:
    async def __call__(self) -> str:
        return "done"


@pytest.mark.parametrize("what", ["a sync function", "a coroutine", "no function"])
async def test_a_task_of_what_is_no_async_function_is_an_error_in_the_turn(
    autojump_clock: MockClock, what: str
) -> None:
    async with open_test_broker([Spawning]) as world:
        assert "takes an async function and its arguments" in await world.call("spawn", "start", what)


async def test_a_task_that_fails_is_logged_where_no_on_task_takes_its_exception(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([Spawning]) as world:
        for what in ("bound by partial", "a callable object"):
            assert await world.call("spawn", "start", what) == "begun"
        assert "task of a room failed" not in caplog.text
        assert await world.call("spawn", "start", "failing") == "begun"
        assert "task of a room failed" in caplog.text
        assert "task=failing" in caplog.text
        assert "room=spawn" in caplog.text
        assert "in fail" in caplog.text
        assert "ZeroDivisionError: in a task" in caplog.text


class Filter(RoomActor[None], pattern=("filter", "filter.*")):
    """Lets messages pass, changes them, and keeps them."""

    async def on_message(self, sender: Member | None, message: Message) -> Message | None:
        match message.kind, message.name:
            case MessageKind.CHAT, _:
                text = message.decode(str)
                if text == "keep":
                    self.say({"type": "kept"}, to=() if sender is None else sender)
                    return None
                if text == "refuse":
                    raise Refusal("no such words", code="invalid_message")
                return message.replaced(text.upper()) if text.startswith("loud") else message
            case MessageKind.EVENT, "move":
                where = message.decode(tuple[int, int])
                self.say({"type": "moved"}, but=sender, ephemeral=True)
                return message.replaced([each * 2 for each in where])
            case MessageKind.SERVICE, "order":
                return message.replaced({**message.decode(dict[str, Any]), "seen": True})
            case MessageKind.SERVICE, "wrong":
                return message.replaced({"type": "chat"})
            case _:
                return message


async def test_messages_pass_are_changed_kept_and_refused(autojump_clock: MockClock) -> None:
    async with open_test_broker([Filter]) as world:
        ann = await world.join("filter", user="ann")
        ben = await world.join("filter", user="ben")
        await ann.chat("hello")
        await ann.chat("loud words")
        ack = await ann.chat("keep")
        assert "offset" not in ack or ack["offset"] is None
        with pytest.raises(RefusedError, match="no such words"):
            await ann.chat("refuse")
        assert [each["text"] for each in ben.of_type("chat")] == ["hello", "LOUD WORDS"]
        assert [each["user_id"] for each in ben.of_type("chat")] == ["ann", "ann"]
        assert len(ann.of_type("kept")) == 1
        assert not ben.of_type("kept")


async def test_events_of_clients_are_changed_and_wrong_ones_refused(autojump_clock: MockClock) -> None:
    async with open_test_broker([Filter]) as world:
        ann = await world.join("filter.1", user="ann")
        ben = await world.join("filter.1", user="ben")
        await ann.publish("move", [1, 2])
        assert ben.of_type("event")[0]["data"] == [2, 4]
        assert len(ben.of_type("moved")) == 1
        assert not ann.of_type("moved")
        with pytest.raises(RefusedError) as refused:
            await ann.publish("move", ["left", "right"])
        assert refused.value.code == "invalid_message"


async def test_messages_of_services_are_turns_too(autojump_clock: MockClock) -> None:
    async with open_test_broker([Filter]) as world:
        ann = await world.join("filter", user="ann")
        await world.publish("filter", {"type": "order", "number": 5})
        assert ann.of_type("order")[0]["number"] == 5
        assert ann.of_type("order")[0]["seen"] is True
        with pytest.raises(Refused) as refused:
            await world.publish("filter", {"type": "wrong"})
        assert refused.value.code == "failed"
