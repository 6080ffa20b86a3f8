"""Starting and restarting; and that nothing is left behind whatever happens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest
import trio

from actors import (
    Actor,
    ActorFailedError,
    ActorStoppedError,
    Batch,
    Context,
    EscalatedError,
    Failure,
    Ref,
    Reply,
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


async def raise_value_error(_actor: Diarist) -> None:
    raise ValueError("no")


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


async def test_the_failing_message_is_dropped_and_reported_and_the_rest_handled_in_order() -> None:
    diary: list[str] = []
    failures: list[Failure] = []
    async with supervised(on_failure=failures.append) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        error = ValueError("poison")
        for message in ("one", error, "two", "three"):
            ref.tell_nowait(message)
    assert diary == ["start", "one", "stop", "start", "two", "three", "stop"]
    assert failures == [Failure("a", error, 0.0)]
    assert ref.statistics().restarts == 1


async def test_a_failure_within_a_batch_loses_only_the_messages_taken() -> None:
    handled: list[list[int]] = []

    class Batching(Actor[int]):
        async def receive_batch(self, batch: Batch[int]) -> None:
            handled.append([])
            for number in batch:
                if number == 2:
                    raise ValueError
                handled[-1].append(number)

    async with supervised() as supervisor:
        ref = await supervisor.start(Batching, name="a")
        for number in range(5):
            ref.tell_nowait(number)
    assert handled == [[0, 1], [3, 4]]


async def test_restarts_come_later_and_later(autojump_clock: object) -> None:
    starts: list[float] = []
    delays: list[float | None] = []

    async def note_the_time(_actor: Diarist) -> None:
        starts.append(trio.current_time() - begin)

    policy = RestartPolicy(intensity=5, period_seconds=100, backoff_seconds=1, backoff_max_seconds=3)
    begin = trio.current_time()
    async with supervised(
        policy, on_failure=lambda failure: delays.append(failure.restart_delay_seconds)
    ) as supervisor:
        ref = await supervisor.start(lambda: Diarist([], note_the_time), name="a")
        for _ in range(5):
            ref.tell_nowait(ValueError())
        await trio.sleep(20)
    assert delays == [0, 1, 2, 3, 3]
    assert starts == [0, 0, 1, 3, 6, 9]


async def test_an_actor_may_fail_for_ever_if_it_does_so_seldom(autojump_clock: object) -> None:
    async with supervised(RestartPolicy(intensity=1, period_seconds=10)) as supervisor:
        ref = await supervisor.start(lambda: Diarist([]), name="a")
        for _ in range(50):
            await ref.tell(ValueError())
            await trio.sleep(10)
        assert ref.statistics().restarts == 50
        assert supervisor.statistics().failures == 50


async def test_a_failure_does_not_disturb_the_siblings() -> None:
    calm: list[str] = []
    async with supervised() as supervisor:
        failing = await supervisor.start(lambda: Diarist([]), name="failing")
        other = await supervisor.start(lambda: Diarist(calm), name="calm")
        failing.tell_nowait(ValueError())
        other.tell_nowait("hello")
    assert calm == ["start", "hello", "stop"]


async def test_a_factory_that_raises_fails_the_start() -> None:
    def factory() -> Diarist:
        raise LookupError("no actor here")

    async with supervised() as supervisor:
        with pytest.raises(LookupError, match="no actor here"):
            await supervisor.start(factory, name="a")
        assert supervisor.statistics().actors == 0


async def test_an_on_start_that_raises_fails_the_start_and_is_not_tried_again() -> None:
    diary: list[str] = []
    failures: list[Failure] = []
    async with supervised(on_failure=failures.append) as supervisor:
        with pytest.raises(ValueError, match="no"):
            await supervisor.start(lambda: Diarist(diary, raise_value_error), name="a")
        assert supervisor.statistics().failures == 0
    assert diary == []
    assert failures == []


async def test_on_a_restart_a_factory_or_on_start_that_raises_is_one_more_failure() -> None:
    diary: list[str] = []
    errors: list[Exception] = []
    made = 0

    def factory() -> Diarist:
        nonlocal made
        made += 1
        if made == 2:
            raise LookupError
        return Diarist(diary, raise_value_error if made == 3 else None)

    policy = RestartPolicy(backoff_seconds=0)
    async with supervised(policy, on_failure=lambda failure: errors.append(failure.error)) as supervisor:
        ref = await supervisor.start(factory, name="a")
        ref.tell_nowait(ArithmeticError())
        ref.tell_nowait("at last")
    assert [type(error) for error in errors] == [ArithmeticError, LookupError, ValueError]
    assert diary == ["start", "stop", "start", "at last", "stop"]


async def test_a_start_that_is_cancelled_takes_the_actor_along(autojump_clock: object) -> None:
    diary: list[str] = []

    async def clean_up_slowly(actor: Diarist) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await trio.sleep_forever()
            actor.diary.append("cleaned up")

    async with supervised() as supervisor:
        with trio.move_on_after(2) as scope:
            await supervisor.start(lambda: Diarist(diary, clean_up_slowly), name="a")
        assert scope.cancelled_caught
        assert diary == ["cleaned up"]
        assert supervisor.statistics().actors == 0


async def test_an_actor_that_clings_to_its_start_holds_up_the_starter_only_so_long(
    autojump_clock: object,
) -> None:
    async def cling(_actor: Diarist) -> None:
        with trio.CancelScope(deadline=trio.current_time() + 60, shield=True):
            await trio.sleep_forever()

    begin = trio.current_time()
    async with supervised(stop_seconds=3) as supervisor:
        with trio.move_on_after(2):
            await supervisor.start(lambda: Diarist([], cling), name="a")
        assert trio.current_time() == begin + 5


async def test_an_actor_that_stops_itself_while_it_starts_is_not_handed_out() -> None:
    async def stop_at_once(actor: Diarist) -> None:
        actor.context.ref.stop_nowait()

    async with supervised() as supervisor:
        with pytest.raises(ActorStoppedError, match="a was stopped while it started"):
            await supervisor.start(lambda: Diarist([], stop_at_once), name="a")


async def test_statistics(autojump_clock: object) -> None:
    async with open_supervisor(
        RestartPolicy(intensity=1), on_escalate=lambda _ref, _error: None
    ) as supervisor:
        refs = [await supervisor.start(lambda: Diarist([]), name=name) for name in "ab"]
        assert supervisor.statistics().actors == 2
        refs[0].tell_nowait(ValueError())
        await trio.sleep(1)
        statistics = supervisor.statistics()
        assert (statistics.actors, statistics.failures, statistics.escalations) == (2, 1, 0)
        refs[0].tell_nowait(ValueError())
        await trio.sleep(1)
        statistics = supervisor.statistics()
        assert (statistics.actors, statistics.failures, statistics.escalations) == (1, 2, 1)


async def test_supervisors_nest(autojump_clock: object) -> None:
    inner: list[str] = []

    class Parent(Actor[str]):
        def __init__(self) -> None:
            self._child: Ref[str | BaseException | Step]

        async def on_start(self, context: Context[str]) -> None:
            started = trio.Event()

            async def own_children() -> None:
                async with open_supervisor(RestartPolicy(intensity=0)) as supervisor:
                    self._child = await supervisor.start(lambda: Diarist(inner), name="child")
                    started.set()
                    await trio.sleep_forever()

            context.start_soon(own_children)
            await started.wait()

        async def receive(self, message: str) -> None:
            await self._child.tell(LookupError() if message == "bad" else message)

    failures: list[Failure] = []
    async with supervised(on_failure=failures.append) as supervisor:
        ref = await supervisor.start(Parent, name="parent")
        ref.tell_nowait("bad")
        await trio.sleep(1)
        ref.tell_nowait("good")
        await trio.sleep(1)
    assert inner == ["start", "stop", "start", "good", "stop"]
    assert isinstance(failures[0].error, EscalatedError)


async def test_an_ask_may_be_answered_as_late_as_in_on_stop(autojump_clock: object) -> None:
    class Slow(Actor[Reply[str]]):
        def __init__(self) -> None:
            self._replies: list[Reply[str]] = []

        async def receive(self, message: Reply[str]) -> None:
            self._replies.append(message)
            if len(self._replies) == 2:
                raise ValueError

        async def on_stop(self) -> None:
            self._replies[0].set("goodbye")

    answers: list[str] = []
    async with supervised() as supervisor, trio.open_nursery() as nursery:

        async def ask(ref: Ref[Reply[str]]) -> None:
            try:
                answers.append(await ref.ask(lambda reply: reply))
            except ActorFailedError:
                answers.append("failed")

        ref = await supervisor.start(Slow, name="slow")
        for _ in range(2):
            nursery.start_soon(ask, ref)
    assert sorted(answers) == ["failed", "goodbye"]
