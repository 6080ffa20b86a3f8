"""Where failures go: to the escalation handler, out of the block, or nowhere."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import (
    Actor,
    Context,
    EscalatedError,
    Failure,
    Ref,
    RestartPolicy,
    Supervisor,
    open_supervisor,
)

Step: TypeAlias = Callable[["Diarist"], Awaitable[object]]


class Diarist(Actor[str | BaseException | Step]):
    """Writes down what happens to it; told an error, raises it; told a function, calls it."""

    def __init__(self, diary: list[str], on_start: Step | None = None, on_stop: Step | None = None) -> None:
        self.diary = diary
        self.context: Context[str | BaseException | Step]
        self._steps = on_start, on_stop

    async def on_start(self, context: Context[str | BaseException | Step]) -> None:
        self.context = context
        if self._steps[0] is not None:
            await self._steps[0](self)
        self.diary.append("start")

    async def receive(self, message: str | BaseException | Step) -> None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, str):
            self.diary.append(message)
        else:
            await message(self)

    async def on_stop(self) -> None:
        self.diary.append("stop")
        if self._steps[1] is not None:
            await self._steps[1](self)


async def sleep_a_little(_actor: Diarist) -> None:
    await trio.sleep(1)


async def hang(_actor: Diarist) -> None:
    await trio.sleep_forever()


async def raise_value_error(_actor: Diarist) -> None:
    raise ValueError("no")


async def have_a_helper(actor: Diarist) -> None:
    actor.context.start_soon(trio.sleep_forever)
    await wait_all_tasks_blocked()


def tasks_alive() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, to_see = set[trio.lowlevel.Task](), [root]
    while to_see:
        task = to_see.pop()
        found.add(task)
        to_see += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@asynccontextmanager
async def supervised(
    policy: RestartPolicy | None = None,
    *,
    on_failure: Callable[[Failure], None] = lambda _failure: None,
    stop_seconds: float = 5.0,
) -> AsyncIterator[Supervisor]:
    """A supervisor of which no task and no child may be left when its block has ended."""
    before = tasks_alive()
    try:
        async with open_supervisor(policy, on_failure=on_failure, stop_seconds=stop_seconds) as supervisor:
            yield supervisor
    finally:
        assert tasks_alive() <= before
        assert supervisor.statistics().actors == 0


async def test_escalation_ends_the_block_and_cancels_the_siblings(autojump_clock: object) -> None:
    diary: list[str] = []
    sibling: list[str] = []
    failures: list[Failure] = []
    errors = [ValueError("first"), ValueError("second")]

    async def fail_too_often() -> None:
        async with supervised(RestartPolicy(intensity=1), on_failure=failures.append) as supervisor:
            busy = await supervisor.start(lambda: Diarist(sibling), name="busy")
            busy.tell_nowait(hang)
            ref = await supervisor.start(lambda: Diarist(diary), name="bad")
            for error in errors:
                ref.tell_nowait(error)
            ref.tell_nowait("never handled")
            await trio.sleep_forever()

    with pytest.RaisesGroup(pytest.RaisesExc(EscalatedError, match="bad failed too often")) as caught:
        await fail_too_often()
    assert caught.value.exceptions[0].__cause__ is errors[1]
    assert diary == ["start", "stop", "start", "stop"]
    assert sibling == ["start", "stop"]
    assert [failure.restart_delay_seconds for failure in failures] == [0.0, None]


async def test_with_another_on_escalate_only_that_actor_is_gone() -> None:
    given_up: list[tuple[Ref[object], Exception]] = []
    calm: list[str] = []
    error = ValueError()
    async with open_supervisor(
        RestartPolicy(intensity=0), on_escalate=lambda ref, error: given_up.append((ref, error))
    ) as supervisor:
        bad = await supervisor.start(lambda: Diarist([]), name="bad")
        other = await supervisor.start(lambda: Diarist(calm), name="calm")
        bad.tell_nowait(error)
        await bad.wait_stopped()
        assert supervisor.statistics().actors == 1
        await other.tell("still here")
    assert given_up == [(bad, error)]
    assert calm == ["start", "still here", "stop"]


async def test_an_actor_given_up_accepts_nothing_when_on_escalate_hears_of_it() -> None:
    was_stopping: list[bool] = []
    async with open_supervisor(
        RestartPolicy(intensity=0), on_escalate=lambda ref, _error: was_stopping.append(ref.is_stopping)
    ) as supervisor:
        ref = await supervisor.start(lambda: Diarist([]), name="a")
        ref.tell_nowait(ValueError())
        await ref.wait_stopped()
    assert was_stopping == [True]


async def test_an_exception_of_on_failure_ends_the_block() -> None:
    def complain(_failure: Failure) -> None:
        raise LookupError("no log")

    async def fail() -> None:
        async with supervised(on_failure=complain) as supervisor:
            ref = await supervisor.start(lambda: Diarist([]), name="a")
            ref.tell_nowait(ValueError())
            await trio.sleep_forever()

    with pytest.RaisesGroup(LookupError):
        await fail()


@pytest.mark.parametrize("where", ["on_start", "receive", "helper", "receive, and on_stop fails too"])
async def test_keyboard_interrupt_passes_through(where: str, autojump_clock: object) -> None:
    failures: list[Failure] = []

    async def interrupt(_actor: Diarist) -> None:
        raise KeyboardInterrupt

    async def interrupt_beside(actor: Diarist) -> None:
        actor.context.start_soon(interrupt, actor)

    on_start = interrupt if where == "on_start" else None
    on_stop = raise_value_error if "on_stop" in where else None

    async def run() -> None:
        async with supervised(on_failure=failures.append) as supervisor:
            ref = await supervisor.start(lambda: Diarist([], on_start, on_stop), name="a")
            ref.tell_nowait(interrupt_beside if where == "helper" else interrupt)
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await run()
    assert [type(failure.error) for failure in failures] == ([ValueError] if on_stop else [])


@pytest.mark.parametrize("has_helper", [False, True])
async def test_an_exception_of_a_cancelled_actor_is_not_raised(
    has_helper: bool, autojump_clock: object
) -> None:
    failures: list[Failure] = []

    async def fail_when_cancelled(_actor: Diarist) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("while being cancelled")

    with trio.move_on_after(1) as scope:
        async with supervised(on_failure=failures.append) as supervisor:
            ref = await supervisor.start(lambda: Diarist([]), name="a")
            if has_helper:
                ref.tell_nowait(have_a_helper)
            ref.tell_nowait(fail_when_cancelled)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [type(failure.error) for failure in failures] == [LookupError]


async def test_an_escalation_is_raised_without_later_exceptions_of_other_actors(
    autojump_clock: object,
) -> None:
    failures: list[Failure] = []

    async def fail_together() -> None:
        async with supervised(RestartPolicy(intensity=0), on_failure=failures.append) as supervisor:
            for name in ("a", "b", "c"):
                ref = await supervisor.start(lambda: Diarist([]), name=name)
                ref.tell_nowait(have_a_helper)
                ref.tell_nowait(sleep_a_little)
                ref.tell_nowait(ValueError())
            await trio.sleep_forever()

    errors: tuple[Exception, ...] = ()
    try:
        await fail_together()
    except ExceptionGroup as group:
        errors = group.exceptions
    # One or several, as the scheduler has it.
    assert {type(error) for error in errors} == {EscalatedError}
    assert len(failures) == 3
