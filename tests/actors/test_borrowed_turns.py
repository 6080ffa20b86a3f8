"""Turns that an actor lends to whoever sends it a message while its task sleeps."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    Actor,
    ActorError,
    ActorFailedError,
    ActorStoppedError,
    Context,
    Ref,
    Registry,
    Reply,
    RestartPolicy,
    open_supervisor,
)
from actors.supervisor import Failure, Supervisor


@attrs.frozen
class Say:
    text: str


@attrs.frozen
class Do:
    action: Callable[["Recorder"], None]


@attrs.frozen
class Slow:
    """Cannot be handled in a borrowed turn."""

    text: str


@attrs.frozen
class Question:
    reply: Reply[str]
    action: Callable[["Recorder"], None] = lambda _actor: None


Message = Say | Do | Slow | Question


STEPS = ("say", "slow", "fail", "tell itself", "tell itself and fail", "fail beside", "ask", "sleep")


class Recorder(Actor[Message]):
    """Writes down what it handled, and whether the turn was borrowed."""

    def __init__(self, handled: list[tuple[str, bool]]) -> None:
        self.handled = handled

    async def on_start(self, context: Context[Message]) -> None:
        self.context = context

    async def receive(self, message: Message) -> None:
        self._handle(message, is_borrowed=False)

    def receive_nowait(self, message: Message) -> bool:
        if isinstance(message, Slow):
            return False
        self._handle(message, is_borrowed=True)
        return True

    def _handle(self, message: Message, *, is_borrowed: bool) -> None:
        match message:
            case Say(text) | Slow(text):
                self.handled.append((text, is_borrowed))
            case Do(action):
                action(self)
            case Question(reply, action):
                action(self)
                reply.set("answer")


class Keeper(Recorder):
    """Lends no turn."""

    def receive_nowait(self, message: Message) -> bool:
        return False


@attrs.define
class Stage:
    supervisor: Supervisor
    ref: Ref[Message]
    handled: list[tuple[str, bool]]
    failures: list[Failure]


@asynccontextmanager
async def open_stage(*, lends: bool = True) -> AsyncIterator[Stage]:
    handled: list[tuple[str, bool]] = []
    failures: list[Failure] = []
    policy = RestartPolicy(intensity=1000, backoff_seconds=0.0)
    async with open_supervisor(policy, on_failure=failures.append, on_escalate=lambda *_: None) as supervisor:
        ref = await supervisor.start(lambda: (Recorder if lends else Keeper)(handled), name="recorder")
        await wait_all_tasks_blocked()
        yield Stage(supervisor, ref, handled, failures)


def fail(_actor: Recorder) -> None:
    raise ValueError("in turn")


def tell_itself(text: str, actor: Recorder) -> None:
    if not actor.context.ref.is_stopping:
        actor.context.ref.tell_always(Say(text))


def tell_itself_and_fail(text: str, actor: Recorder) -> None:
    tell_itself(text, actor)
    fail(actor)


def fail_beside(actor: Recorder) -> None:
    """Have a task of the actor fail, which ends its incarnation between two turns."""
    actor.context.start_soon(raise_beside)


async def raise_beside() -> None:
    raise ValueError("beside")


async def test_a_sleeping_actor_handles_a_message_on_the_senders_stack() -> None:
    async with open_stage() as stage:
        stage.ref.tell_nowait(Say("a"))
        stage.ref.tell_always(Say("b"))
        assert stage.handled == [("a", True), ("b", True)]
        await stage.ref.tell(Say("c"))
        assert stage.handled[-1] == ("c", True)
        statistics = stage.ref.statistics().mailbox
        assert (statistics.accepted, statistics.waiting) == (3, 0)


async def test_behind_a_message_that_waits_everything_waits() -> None:
    async with open_stage() as stage:
        stage.ref.tell_nowait(Slow("a"))
        stage.ref.tell_nowait(Say("b"))
        assert not stage.handled
        await wait_all_tasks_blocked()
        stage.ref.tell_nowait(Say("c"))
        assert stage.handled == [("a", False), ("b", False), ("c", True)]


async def test_a_message_of_a_turn_to_its_own_actor_is_handled_after_the_turn() -> None:
    async with open_stage() as stage:

        def tell_twice(actor: Recorder) -> None:
            actor.context.ref.tell_nowait(Say("first"))
            actor.context.ref.tell_always(Say("second"))
            actor.handled.append(("turn", True))

        stage.ref.tell_nowait(Do(tell_twice))
        stage.ref.tell_nowait(Say("third"))
        await wait_all_tasks_blocked()
        assert stage.handled == [("turn", True), ("first", False), ("second", False), ("third", False)]


async def test_two_actors_may_tell_each_other_within_a_turn() -> None:
    async with open_stage() as stage:
        other = await stage.supervisor.start(lambda: Recorder(stage.handled), name="other")
        await wait_all_tasks_blocked()

        def back(_actor: Recorder) -> None:
            stage.ref.tell_nowait(Say("back"))
            stage.handled.append(("other", True))

        stage.ref.tell_nowait(Do(lambda _actor: other.tell_nowait(Do(back))))
        assert stage.handled == [("other", True)]
        await wait_all_tasks_blocked()
        assert stage.handled == [("other", True), ("back", False)]


async def test_a_borrowed_turn_that_raises_fails_the_actor_and_not_the_sender() -> None:
    async with open_stage() as stage:
        stage.ref.tell_nowait(Do(fail))
        stage.ref.tell_nowait(Say("behind"))
        assert not stage.handled
        await wait_all_tasks_blocked()
        assert stage.handled == [("behind", False)]
        (failure,) = stage.failures
        assert (failure.name, str(failure.error)) == ("recorder", "in turn")
        assert stage.ref.statistics().restarts == 1
        await wait_all_tasks_blocked()
        stage.ref.tell_nowait(Say("again"))
        assert stage.handled[-1] == ("again", True)


async def test_a_question_whose_borrowed_turn_raises_is_failed_as_by_the_task() -> None:
    async with open_stage() as stage:
        with pytest.raises(ActorFailedError, match="in turn"):
            await stage.ref.ask(lambda reply: Question(reply, fail))
        assert await stage.ref.ask(Question) == "answer"


async def test_an_actor_that_fails_too_often_in_borrowed_turns_is_given_up() -> None:
    escalated: list[str] = []
    policy = RestartPolicy(intensity=1, backoff_seconds=0.0)
    async with open_supervisor(
        policy, on_escalate=lambda ref, _error: escalated.append(ref.name)
    ) as supervisor:
        ref: Ref[Message] = await supervisor.start(lambda: Recorder([]), name="recorder")
        for _ in range(2):
            await wait_all_tasks_blocked()
            ref.tell_nowait(Do(fail))
        await ref.wait_stopped()
        with pytest.raises(ActorStoppedError):
            ref.tell_nowait(Say("late"))
    assert escalated == ["recorder"]


async def test_a_turn_that_stops_its_own_actor_is_the_last() -> None:
    async with open_stage() as stage:

        def stop(actor: Recorder) -> None:
            actor.context.ref.stop_nowait()
            actor.handled.append(("last", True))

        stage.ref.tell_nowait(Do(stop))
        with pytest.raises(ActorStoppedError):
            stage.ref.tell_nowait(Say("late"))
        await stage.ref.wait_stopped()
        assert stage.handled == [("last", True)]
        assert not stage.failures


async def test_a_turn_that_stops_its_own_actor_and_raises_is_reported() -> None:
    async with open_stage() as stage:

        def stop(actor: Recorder) -> None:
            actor.context.ref.stop_nowait()
            raise ValueError("in turn")

        stage.ref.tell_nowait(Do(stop))
        await stage.ref.wait_stopped()
        assert [str(failure.error) for failure in stage.failures] == ["in turn"]


async def test_an_actor_in_a_borrowed_turn_is_not_passivated() -> None:
    handled: list[tuple[str, bool]] = []
    async with open_supervisor() as supervisor:
        registry: Registry[str, Message] = Registry(
            supervisor, lambda _key: lambda: Recorder(handled), name="recorder", idle_seconds=1e-9
        )
        ref = await registry.get("a")
        await wait_all_tasks_blocked()
        passivated: list[int] = []
        ref.tell_nowait(Do(lambda _actor: passivated.append(registry.passivate_idle())))
        assert passivated == [0]
        assert registry.passivate_one()


async def test_a_cancelled_actor_drops_or_handles_a_message_and_then_ends() -> None:
    handled: list[tuple[str, bool]] = []
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            ref: Ref[Message] = await supervisor.start(lambda: Recorder(handled), name="recorder")
            await wait_all_tasks_blocked()
            scope.cancel()
            ref.tell_nowait(Do(fail))
            await trio.sleep_forever()
    assert ref.statistics().is_stopped


async def test_an_actor_without_the_method_lends_nothing() -> None:
    class Plain(Actor[str]):
        async def receive(self, message: str) -> None:
            heard.append(message)

    heard: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start(Plain, name="plain")
        await wait_all_tasks_blocked()
        ref.tell_nowait("a")
        assert not heard
        await wait_all_tasks_blocked()
        assert heard == ["a"]


@given(
    st.lists(
        st.sampled_from(STEPS),
        max_size=30,
    )
)
def test_nobody_can_tell_whether_turns_were_borrowed(steps: list[str]) -> None:
    assert trio.run(outcome_of, steps, True, clock=jumping()) == trio.run(
        outcome_of, steps, False, clock=jumping()
    )


def jumping() -> MockClock:
    return MockClock(autojump_threshold=0)


async def outcome_of(steps: list[str], lends: bool) -> Any:
    """Return the messages handled, the failures, the answers, and how many messages were refused."""
    refused = 0
    replies: list[Reply[str]] = []
    async with open_stage(lends=lends) as stage:
        for number, step in enumerate(steps):
            if step == "sleep":
                await wait_all_tasks_blocked()
                continue
            message = message_of(step, number)
            try:
                stage.ref.tell_nowait(message)
            except ActorStoppedError:
                refused += 1
                continue
            if isinstance(message, Question):
                stage.ref.watch(message.reply)
                replies.append(message.reply)
        await wait_all_tasks_blocked()
    answers = [await outcome_of_reply(reply) for reply in replies]
    failures = sorted(str(failure.error) for failure in stage.failures)
    # A turn sends its own messages at another moment, so each sender's order is compared alone.
    texts = [text for text, _ in stage.handled]
    own = [text for text in texts if text.startswith(("itself", "asked"))]
    return own, [text for text in texts if text not in own], failures, answers, refused


def message_of(step: str, number: int) -> Message:
    match step:
        case "fail":
            return Do(fail)
        case "tell itself":
            return Do(partial(tell_itself, f"itself {number}"))
        case "tell itself and fail":
            return Do(partial(tell_itself_and_fail, f"itself {number}"))
        case "fail beside":
            return Do(fail_beside)
        case "ask":
            return Question(Reply(), partial(tell_itself_and_fail, f"asked {number}"))
        case "slow":
            return Slow(f"slow {number}")
        case _:
            return Say(f"say {number}")


async def outcome_of_reply(reply: Reply[str]) -> str:
    try:
        return await reply.wait()
    except ActorError as error:
        return type(error).__name__
