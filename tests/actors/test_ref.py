"""The handle: order, waiting for space, answers that always come, stopping."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actors import (
    Actor,
    ActorFailedError,
    ActorStoppedError,
    MailboxFullError,
    Ref,
    Reply,
    RestartPolicy,
    open_supervisor,
)


@attrs.frozen
class Double:
    number: int
    reply: Reply[int]


@attrs.frozen
class AnswerLater:
    reply: Reply[int]


@attrs.frozen
class AnswerNow:
    """Answer what was to be answered later."""


@attrs.frozen
class Refuse:
    reply: Reply[int]


@attrs.frozen
class Sleep:
    seconds: float


@attrs.frozen
class Fail:
    """Raise while being handled."""


@attrs.frozen
class FailInstead:
    """A question that makes the actor raise."""

    reply: Reply[int]


Message: TypeAlias = int | Double | AnswerLater | AnswerNow | Refuse | Sleep | Fail | FailInstead


class Calculator(Actor[Message]):
    """Notes numbers, answers questions."""

    def __init__(self, noted: list[int]) -> None:
        self._noted = noted
        self._later: list[Reply[int]] = []

    async def receive(self, message: Message) -> None:
        match message:
            case int():
                self._noted.append(message)
            case Double(number, reply):
                reply.set(2 * number)
            case AnswerLater(reply):
                self._later.append(reply)
            case AnswerNow():
                self._later.pop(0).set(42)
            case Refuse(reply):
                reply.fail(PermissionError("not you"))
            case Sleep(seconds):
                await trio.sleep(seconds)
            case Fail() | FailInstead():
                raise ZeroDivisionError


@asynccontextmanager
async def calculator(
    noted: list[int] | None = None,
    *,
    capacity: int = 100,
    intensity: int = 5,
    on_escalate: Callable[[Ref[object], Exception], None] = lambda _ref, _error: None,
) -> AsyncIterator[Ref[Message]]:
    policy = RestartPolicy(intensity)
    async with open_supervisor(policy, on_escalate=on_escalate) as supervisor:
        diary = [] if noted is None else noted
        yield await supervisor.start(lambda: Calculator(diary), name="calculator", capacity=capacity)


async def test_messages_of_one_sender_arrive_in_order_however_they_are_sent() -> None:
    noted: list[int] = []
    async with calculator(noted, capacity=3) as ref:
        for number in range(0, 30, 3):
            ref.tell_always(number)
            await ref.tell(number + 1)
            try:
                ref.tell_nowait(number + 2)
            except MailboxFullError:
                await ref.tell(number + 2)
    assert noted == list(range(30))


async def test_senders_wait_for_space_and_each_keeps_its_order(autojump_clock: object) -> None:
    noted: list[int] = []

    async def send(ref: Ref[Message], numbers: range) -> None:
        for number in numbers:
            await ref.tell(number)

    async with calculator(noted, capacity=2) as ref, trio.open_nursery() as nursery:
        ref.tell_nowait(Sleep(1))
        for start in range(0, 1000, 100):
            nursery.start_soon(send, ref, range(start, start + 20))
        await wait_all_tasks_blocked()
        assert ref.statistics().mailbox.waiting == 2
        assert ref.statistics().mailbox.senders_waiting == 10
        with pytest.raises(MailboxFullError):
            ref.tell_nowait(1)
    for start in range(0, 1000, 100):
        assert [n for n in noted if start <= n < start + 100] == list(range(start, start + 20))
    assert len(noted) == 200


async def test_a_stopped_actor_accepts_nothing() -> None:
    async with calculator() as ref:
        await ref.stop()
        assert ref.is_stopping
        with pytest.raises(ActorStoppedError, match="calculator has stopped"):
            ref.tell_nowait(1)
        with pytest.raises(ActorStoppedError):
            ref.tell_always(1)
        with pytest.raises(ActorStoppedError):
            await ref.tell(1)
        with pytest.raises(ActorStoppedError):
            await ref.ask(AnswerLater)


async def test_ask_returns_the_answer() -> None:
    async with calculator() as ref:
        with assert_checkpoints():
            answer: int = await ref.ask(lambda reply: Double(21, reply))
        assert answer == 42


async def test_an_answer_may_come_later() -> None:
    async with calculator() as ref, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await ref.ask(AnswerLater) == 42

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert ref.statistics().open_replies == 1
        assert ref.has_open_replies
        ref.tell_nowait(AnswerNow())
        await wait_all_tasks_blocked()
        assert ref.statistics().open_replies == 0
        assert not ref.has_open_replies


async def test_a_watched_reply_is_failed_with_the_actor_and_let_go_by_hand() -> None:
    async with calculator() as ref:
        answered: Reply[int] = Reply()
        open_for_ever: Reply[int] = Reply()
        with pytest.raises(trio.WouldBlock):
            answered.get_nowait()
        for reply, message in ((answered, Double(21, answered)), (open_for_ever, AnswerLater(open_for_ever))):
            ref.tell_nowait(message)
            ref.watch(reply)
        assert await answered.wait() == answered.get_nowait() == 42
        assert ref.statistics().open_replies == 2
        ref.unwatch(answered)
        assert ref.statistics().open_replies == 1
    with pytest.raises(ActorStoppedError):
        open_for_ever.get_nowait()
    late: Reply[int] = Reply()
    ref.watch(late)
    with pytest.raises(ActorStoppedError):
        late.get_nowait()


async def test_ask_raises_the_error_that_the_actor_set() -> None:
    async with calculator() as ref:
        with pytest.raises(PermissionError, match="not you"):
            await ref.ask(Refuse)
        assert ref.statistics().restarts == 0


async def test_a_cancelled_ask_leaves_nothing_behind_and_its_answer_is_dropped(
    autojump_clock: object,
) -> None:
    async with calculator() as ref:
        with trio.move_on_after(1) as scope:
            await ref.ask(AnswerLater)
        assert scope.cancelled_caught
        assert ref.statistics().open_replies == 0
        ref.tell_nowait(AnswerNow())
        assert await ref.ask(lambda reply: Double(1, reply)) == 2


async def test_an_ask_cancelled_while_it_waits_for_space_is_not_handled(autojump_clock: object) -> None:
    noted: list[int] = []
    asked: list[Reply[int]] = []

    def question(reply: Reply[int]) -> Message:
        asked.append(reply)
        return Double(1, reply)

    async with calculator(noted, capacity=1) as ref:
        ref.tell_nowait(Sleep(5))
        await wait_all_tasks_blocked()
        ref.tell_nowait(1)
        with trio.move_on_after(1):
            await ref.ask(question)
        await trio.sleep(10)
    assert noted == [1]
    assert not asked[0].is_settled


async def test_a_question_the_actor_held_when_it_failed_raises_and_says_why() -> None:
    async with calculator() as ref:
        with pytest.raises(ActorFailedError, match="ZeroDivisionError") as caught:
            await ref.ask(FailInstead)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert await ref.ask(lambda reply: Double(3, reply)) == 6
        assert ref.statistics().restarts == 1


async def test_a_question_put_off_raises_when_the_actor_fails_over_another_message() -> None:
    async with calculator() as ref, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ActorFailedError):
                await ref.ask(AnswerLater)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        ref.tell_nowait(Fail())


async def test_a_question_put_off_raises_when_the_actor_stops() -> None:
    async with calculator() as ref, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ActorStoppedError):
                await ref.ask(AnswerLater)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await ref.stop()


async def test_a_question_behind_the_failure_is_answered_by_the_next_incarnation(
    autojump_clock: object,
) -> None:
    async with calculator() as ref, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await ref.ask(lambda reply: Double(4, reply)) == 8

        ref.tell_nowait(Sleep(1))
        ref.tell_nowait(Fail())
        nursery.start_soon(ask)
        await trio.sleep(2)
        assert ref.statistics().restarts == 1


async def test_no_ask_hangs_when_the_actor_is_given_up(autojump_clock: object) -> None:
    outcomes: list[str] = []

    async def ask(ref: Ref[Message], question: Callable[[Reply[int]], Message]) -> None:
        try:
            await ref.ask(question)
        except (ActorFailedError, ActorStoppedError) as error:
            outcomes.append(f"{question.__name__}: {type(error).__name__}")

    async with calculator(intensity=0) as ref, trio.open_nursery() as nursery:
        nursery.start_soon(ask, ref, AnswerLater)
        await wait_all_tasks_blocked()
        ref.tell_nowait(Sleep(1))
        nursery.start_soon(ask, ref, FailInstead)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, ref, Refuse)
    assert sorted(outcomes) == [
        "AnswerLater: ActorFailedError",
        "FailInstead: ActorFailedError",
        "Refuse: ActorStoppedError",
    ]
    assert ref.statistics().restarts == 0


async def test_no_ask_hangs_when_the_supervisor_is_cancelled(autojump_clock: object) -> None:
    outcomes: list[str] = []

    async def ask(ref: Ref[Message], question: Callable[[Reply[int]], Message]) -> None:
        with pytest.raises(ActorStoppedError):
            await ref.ask(question)
        outcomes.append(question.__name__)

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(2):
            async with calculator(capacity=1) as ref:
                nursery.start_soon(ask, ref, AnswerLater)
                await wait_all_tasks_blocked()
                ref.tell_nowait(Sleep(100))
                await wait_all_tasks_blocked()
                nursery.start_soon(ask, ref, Refuse)
                await wait_all_tasks_blocked()
                nursery.start_soon(ask, ref, FailInstead)  # waits for space
                await trio.sleep(50)
    assert sorted(outcomes) == ["AnswerLater", "FailInstead", "Refuse"]


async def test_stop_returns_once_the_mailbox_is_handled_and_the_actor_ended(
    autojump_clock: object,
) -> None:
    noted: list[int] = []
    async with calculator(noted) as ref:
        ref.tell_nowait(Sleep(1))
        ref.tell_nowait(1)
        await ref.stop()
        assert noted == [1]
        assert ref.statistics().is_stopped
        await ref.wait_stopped()
        with assert_checkpoints():
            await ref.stop()  # a second time does no harm


async def test_a_cancelled_stop_stops_all_the_same(autojump_clock: object) -> None:
    async with calculator() as ref:
        ref.tell_nowait(Sleep(5))
        with trio.move_on_after(1) as scope:
            await ref.stop()
        assert scope.cancelled_caught
        assert ref.is_stopping
        assert not ref.statistics().is_stopped
        await ref.wait_stopped()


async def test_waiting_for_a_reply_of_an_actor_that_is_gone_does_not_hang() -> None:
    async with calculator() as ref:
        reply: Reply[int] = Reply()
        ref.tell_nowait(AnswerLater(reply))
        await ref.stop()
        with pytest.raises(ActorStoppedError):
            await ref.wait_reply(reply)


async def test_statistics_and_name() -> None:
    async with calculator(capacity=7) as ref:
        ref.tell_nowait(1)
        statistics = ref.statistics()
        assert statistics.name == "calculator"
        assert statistics.mailbox.capacity == 7
        assert statistics.mailbox.accepted == 1
        assert statistics.mailbox.waiting == 1
        assert not statistics.is_stopped
        assert repr(ref) == "<Ref calculator>"
        assert not ref.is_stopping
