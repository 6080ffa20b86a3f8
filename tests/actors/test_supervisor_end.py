"""The end of a supervisor's block: what waits is handled, nothing hangs, nothing is left."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import (
    Actor,
    ActorStoppedError,
    Context,
    EscalatedError,
    Failure,
    Ref,
    RestartPolicy,
    Supervisor,
    open_supervisor,
)

Step: TypeAlias = Callable[["Diarist"], Awaitable[object]]
Message: TypeAlias = str | BaseException | Step


class Diarist(Actor[Message]):
    """Writes down what happens to it; told an error, raises it; told a function, calls it."""

    def __init__(self, diary: list[str], on_start: Step | None = None, on_stop: Step | None = None) -> None:
        self.diary = diary
        self.context: Context[Message]
        self._steps = on_start, on_stop

    async def on_start(self, context: Context[Message]) -> None:
        self.context = context
        if self._steps[0] is not None:
            await self._steps[0](self)
        self.diary.append("start")

    async def receive(self, message: Message) -> None:
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


async def test_the_end_of_the_block_lets_every_actor_empty_its_mailbox(autojump_clock: object) -> None:
    diaries: list[list[str]] = [[], [], []]
    async with supervised() as supervisor:
        for diary in diaries:
            ref = await supervisor.start(partial(Diarist, diary), name="a")
            ref.tell_nowait(sleep_a_little)
            ref.tell_nowait("done")
    assert diaries == [["start", "done", "stop"]] * 3


async def test_the_end_of_the_block_takes_no_longer_than_allowed(autojump_clock: object) -> None:
    diary: list[str] = []
    begin = trio.current_time()
    async with supervised(stop_seconds=3) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary, on_stop=hang), name="a")
        ref.tell_nowait(hang)
    assert diary == ["start", "stop"]
    assert trio.current_time() == begin + 3 + 3  # to handle what waits, then to stop


async def test_a_block_that_raises_cancels_the_actors_at_once(autojump_clock: object) -> None:
    diary: list[str] = []
    refs: list[Ref[Message]] = []
    begin = trio.current_time()

    async def fail() -> None:
        async with supervised() as supervisor:
            ref = await supervisor.start(lambda: Diarist(diary), name="a")
            ref.tell_nowait(hang)
            ref.tell_nowait("never handled")
            refs.append(ref)
            raise LookupError

    with pytest.RaisesGroup(LookupError):
        await fail()
    assert diary == ["start", "stop"]
    assert refs[0].statistics().mailbox.waiting == 0
    assert trio.current_time() == begin


async def test_nothing_starts_in_a_supervisor_that_is_closing(autojump_clock: object) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:

        async def start_another() -> None:
            await trio.sleep(1)
            with pytest.raises(ActorStoppedError, match="b cannot start: its supervisor is closing"):
                await supervisor.start(lambda: Diarist([]), name="b")

        ref = await supervisor.start(lambda: Diarist([]), name="a")
        ref.tell_nowait(sleep_a_little)
        ref.tell_nowait(sleep_a_little)
        nursery.start_soon(start_another)
        supervisor.stop_nowait()
    with pytest.raises(ActorStoppedError):
        await supervisor.start(lambda: Diarist([]), name="c")


async def test_nothing_starts_in_a_supervisor_that_was_cancelled(autojump_clock: object) -> None:

    async def escalate() -> None:
        async with open_supervisor(RestartPolicy(intensity=0)) as supervisor:
            ref = await supervisor.start(lambda: Diarist([]), name="a")
            ref.tell_nowait(ValueError())
            with trio.CancelScope(shield=True):
                await ref.wait_stopped()
                with pytest.raises(ActorStoppedError) as refused:
                    await supervisor.start(lambda: Diarist([]), name="b")
                refusals.append(str(refused.value))

    refusals: list[str] = []
    with pytest.RaisesGroup(EscalatedError):
        await escalate()
    assert refusals == ["b cannot start: its supervisor is closing"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_start_still_under_way_does_not_keep_the_block_open(
    is_cancelled: bool, autojump_clock: object
) -> None:
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_supervisor(stop_seconds=2) as supervisor:

                async def start() -> None:
                    with pytest.raises(ActorStoppedError, match="stopped while it started"):
                        await supervisor.start(lambda: Diarist([], hang), name="a")

                nursery.start_soon(start)
                await wait_all_tasks_blocked()
                if is_cancelled:
                    scope.cancel()
        assert trio.current_time() == begin + (0 if is_cancelled else 2)


async def test_an_actor_whose_task_has_not_begun_is_stopped_with_the_others(autojump_clock: object) -> None:
    begin = trio.current_time()
    async with open_supervisor() as supervisor:
        child = supervisor.start_soon(lambda: Diarist([]), name="a", capacity=1)
    assert trio.current_time() == begin
    assert child.ref.statistics().is_stopped


async def test_a_failure_over_the_last_message_needs_no_restart() -> None:
    diary: list[str] = []
    failures: list[Failure] = []
    error = ValueError()
    async with supervised(RestartPolicy(intensity=0), on_failure=failures.append) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(error)
    assert diary == ["start", "stop"]
    assert failures == [Failure("a", error, None)]
    assert supervisor.statistics().escalations == 0
    assert ref.statistics().restarts == 0


async def test_an_actor_stopped_while_it_waits_for_its_restart_is_not_restarted(
    autojump_clock: object,
) -> None:
    diary: list[str] = []
    policy = RestartPolicy(backoff_seconds=2, backoff_max_seconds=2)
    async with supervised(policy) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(ValueError())
        ref.tell_nowait(ValueError())
        await trio.sleep(1)
        await ref.stop()
        assert diary == ["start", "stop", "start", "stop"]


async def test_an_actor_stopped_before_its_restart_still_empties_its_mailbox(
    autojump_clock: object,
) -> None:
    diary: list[str] = []
    policy = RestartPolicy(backoff_seconds=2, backoff_max_seconds=2)
    async with supervised(policy) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(ValueError())
        ref.tell_nowait(ValueError())
        ref.tell_nowait("last")
        await trio.sleep(1)
        await ref.stop()
        assert diary == ["start", "stop", "start", "stop", "start", "last", "stop"]


async def test_a_poison_that_comes_in_numbers_escalates_also_while_stopping(autojump_clock: object) -> None:
    async def fail_again_and_again() -> None:
        async with supervised(RestartPolicy(intensity=2)) as supervisor:
            ref = await supervisor.start(lambda: Diarist([]), name="a")
            for _ in range(4):
                ref.tell_nowait(ValueError())

    with pytest.RaisesGroup(EscalatedError):
        await fail_again_and_again()
