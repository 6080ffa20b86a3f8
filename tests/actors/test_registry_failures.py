"""Failing actors of a registry."""

from collections.abc import Callable
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import (
    Actor,
    Context,
    EscalatedError,
    Registry,
    Reply,
    RestartPolicy,
    Supervisor,
    open_supervisor,
)


@attrs.frozen
class Question:
    reply: Reply[str]


Message: TypeAlias = str | Question | Exception
Guests: TypeAlias = Registry[str, Message]


class Guest(Actor[Message]):
    """Takes a second for each message, and raises the errors it is told."""

    def __init__(self, diary: list[str]) -> None:
        self._diary = diary

    async def on_start(self, context: Context[Message]) -> None:
        self._diary.append("start")

    async def receive(self, message: Message) -> None:
        await trio.sleep(1)
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Question):
            message.reply.set("here")
        else:
            self._diary.append(message)

    async def on_stop(self) -> None:
        self._diary.append("stop")


def make_guests(supervisor: Supervisor, diary: list[str], *, capacity: int = 100) -> Guests:
    def make_factory(key: str) -> Callable[[], Guest]:
        diary.append(f"make {key}")
        return lambda: Guest(diary)

    return Registry(supervisor, make_factory, name="guest", idle_seconds=10, capacity=capacity)


def ignore(_ref: object, _error: Exception) -> None:
    """Give an actor up and let the others live."""


async def test_a_failing_actor_stays_in_the_registry(autojump_clock: object) -> None:
    diary: list[str] = []
    async with open_supervisor() as supervisor:
        registry = make_guests(supervisor, diary)
        ref = await registry.tell("ann", ValueError())
        await registry.tell("ann", "well again")
        await trio.sleep(1.5)
        assert await registry.get("ann") is ref
    assert diary == ["make ann", "start", "stop", "start", "well again", "stop"]


async def test_an_actor_given_up_leaves_the_registry_and_can_be_started_anew(autojump_clock: object) -> None:
    diary: list[str] = []
    async with open_supervisor(RestartPolicy(intensity=0), on_escalate=ignore) as supervisor:
        registry = make_guests(supervisor, diary)
        first = await registry.tell("ann", ValueError())
        await first.wait_stopped()
        assert len(registry) == 0
        second = await registry.tell("ann", "hello")
        assert second is not first
    assert diary == ["make ann", "start", "stop", "make ann", "start", "hello", "stop"]


async def test_a_message_waiting_for_space_when_its_actor_is_given_up_reaches_the_next(
    autojump_clock: object,
) -> None:
    diary: list[str] = []
    async with open_supervisor(RestartPolicy(intensity=0), on_escalate=ignore) as supervisor:
        registry = make_guests(supervisor, diary, capacity=1)
        async with trio.open_nursery() as nursery:
            await registry.tell("ann", ValueError())
            await wait_all_tasks_blocked()
            await registry.tell("ann", "accepted, and lost with its actor")
            nursery.start_soon(registry.tell, "ann", "not accepted yet")
            nursery.start_soon(registry.ask, "ann", Question)
    assert diary == ["make ann", "start", "stop", "make ann", "start", "not accepted yet", "stop"]


async def test_an_actor_given_up_is_told_of_with_its_key(autojump_clock: object) -> None:
    given_up: list[tuple[str, Exception]] = []
    error = ValueError()
    async with open_supervisor(RestartPolicy(intensity=0)) as supervisor:
        registry: Guests = Registry(
            supervisor,
            lambda _key: lambda: Guest([]),
            name="guest",
            idle_seconds=10,
            on_escalate=lambda key, error: given_up.append((key, error)),
        )
        ref = await registry.tell("ann", error)
        await ref.wait_stopped()
    assert given_up == [("ann", error)]


async def test_without_its_own_handler_the_supervisors_decides(autojump_clock: object) -> None:
    async def fail() -> None:
        async with open_supervisor(RestartPolicy(intensity=0)) as supervisor:
            ref = await make_guests(supervisor, []).tell("ann", ValueError())
            await ref.wait_stopped()

    with pytest.RaisesGroup(EscalatedError):
        await fail()
