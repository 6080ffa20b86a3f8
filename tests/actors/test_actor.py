"""The contract of an actor: the order of its methods, and the end of its helper tasks."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
import trio

from actors import Actor, Batch, Context, Failure, RestartPolicy, open_supervisor

Step: TypeAlias = Callable[["Diarist"], Awaitable[object]]


class Diarist(Actor[str | Exception | Step]):
    """Writes down what happens to it; told an error, raises it; told a function, calls it."""

    def __init__(self, diary: list[str], on_start: Step | None = None, on_stop: Step | None = None) -> None:
        self.diary = diary
        self.context: Context[str | Exception | Step]
        self._steps = on_start, on_stop

    async def on_start(self, context: Context[str | Exception | Step]) -> None:
        self.context = context
        if self._steps[0] is not None:
            await self._steps[0](self)
        self.diary.append("start")

    async def receive(self, message: str | Exception | Step) -> None:
        if isinstance(message, Exception):
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
    async def help_for_ever() -> None:
        try:
            await trio.sleep_forever()
        finally:
            actor.diary.append("helper gone")

    actor.context.start_soon(help_for_ever)
    await trio.sleep(0.001)  # let it begin


async def have_a_failing_helper(actor: Diarist) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise LookupError("helper")

    actor.context.start_soon(fail)


async def test_messages_are_handled_in_order_between_on_start_and_on_stop(autojump_clock: object) -> None:
    diary: list[str] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:

        async def on_start(actor: Diarist) -> None:
            actor.context.ref.tell_nowait("one")
            await trio.sleep(1)
            actor.context.ref.tell_nowait("two")

        async def start() -> None:
            ref = await supervisor.start(lambda: Diarist(diary, on_start), name="a")
            ref.tell_nowait("three")

        nursery.start_soon(start)
        await trio.sleep(0.5)
        assert diary == []
    assert diary == ["start", "one", "two", "three", "stop"]


async def test_an_actor_may_leave_everything_as_it_is() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start(Actor[str], name="a")
        await ref.tell("ignored")
        assert Actor().is_idle()
        await ref.stop()
    assert ref.statistics().mailbox.waiting == 0


async def test_a_batch_has_all_waiting_messages_and_those_not_taken_stay() -> None:
    batches: list[list[int]] = []

    class ByTwos(Actor[int]):
        async def receive_batch(self, batch: Batch[int]) -> None:
            assert len(batch) == 5 - 2 * len(batches)
            batches.append([message for _, message in zip(range(2), batch, strict=False)])

    async with open_supervisor() as supervisor:
        ref = await supervisor.start(ByTwos, name="a")
        for number in range(5):
            ref.tell_nowait(number)
    assert batches == [[0, 1], [2, 3], [4]]


async def test_each_incarnation_is_a_new_instance_and_the_factorys_closure_remains() -> None:
    made: list[Actor[Exception]] = []

    class Failing(Actor[Exception]):
        async def receive(self, message: Exception) -> None:
            raise message

    def factory() -> Actor[Exception]:
        made.append(Failing())
        return made[-1]

    async with open_supervisor() as supervisor:
        ref = await supervisor.start(factory, name="a")
        ref.tell_nowait(ValueError())
        ref.tell_nowait(ValueError())
    assert len(set(made)) == 2  # after the second failure nothing was left to do


async def test_on_stop_follows_every_successful_start_once(autojump_clock: object) -> None:
    diary: list[str] = []
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start(lambda: Diarist(diary), name="a")
            ref.tell_nowait(ValueError())
            ref.tell_nowait("after a failure")
            ref.tell_nowait(have_a_failing_helper)
            await trio.sleep(2)
            ref.tell_nowait("after its helper's failure")
            await trio.sleep(1)
            scope.cancel()
    assert diary == [
        "start",
        "stop",
        "start",
        "after a failure",
        "stop",
        "start",
        "after its helper's failure",
        "stop",
    ]


async def test_on_stop_is_not_called_when_on_start_failed() -> None:
    diary: list[str] = []
    async with open_supervisor() as supervisor:
        with pytest.raises(ValueError, match="no"):
            await supervisor.start(lambda: Diarist(diary, raise_value_error), name="a")
    assert diary == []


@pytest.mark.parametrize("end", ["stop", "failure", "cancellation"])
async def test_on_stop_may_take_its_time_but_not_for_ever(end: str, autojump_clock: object) -> None:
    diary: list[str] = []
    failures: list[Failure] = []

    async def on_stop(actor: Diarist) -> None:
        await trio.sleep(2)
        actor.diary.append("slept")
        await trio.sleep_forever()

    started_at = trio.current_time()
    with trio.CancelScope() as scope:
        async with open_supervisor(
            RestartPolicy(intensity=0),
            on_failure=failures.append,
            on_escalate=lambda _ref, _error: None,
            stop_seconds=3,
        ) as supervisor:
            ref = await supervisor.start(lambda: Diarist(diary, on_stop=on_stop), name="a")
            if end == "failure":
                ref.tell_nowait(ValueError())
            if end == "cancellation":
                scope.cancel()
    assert diary == ["start", "stop", "slept"]
    assert trio.current_time() - started_at == 3
    assert isinstance(failures[0].error, trio.TooSlowError)
    assert failures[0].restart_delay_seconds is None


async def test_an_on_stop_that_raises_is_reported_and_costs_no_restart(autojump_clock: object) -> None:
    diary: list[str] = []
    failures: list[Failure] = []
    async with open_supervisor(RestartPolicy(1), on_failure=failures.append) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary, on_stop=raise_value_error), name="a")
        ref.tell_nowait(LookupError())
        ref.tell_nowait("handled")
    assert diary == ["start", "stop", "start", "handled", "stop"]
    assert [type(failure.error) for failure in failures] == [ValueError, LookupError, ValueError]
    assert [failure.restart_delay_seconds for failure in failures] == [None, 0.0, None]


@pytest.mark.parametrize("end", ["stop", "failure", "cancellation"])
async def test_helper_tasks_are_gone_before_on_stop(end: str, autojump_clock: object) -> None:
    diary: list[str] = []
    async with open_supervisor(stop_seconds=1) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(have_a_helper)
        if end == "failure":
            ref.tell_nowait(ValueError())
        if end == "cancellation":
            ref.tell_nowait(hang)
    assert diary == ["start", "helper gone", "stop"]


async def test_a_helper_that_fails_takes_the_actor_along_and_is_named_as_the_reason(
    autojump_clock: object,
) -> None:
    diary: list[str] = []
    failures: list[Failure] = []
    async with open_supervisor(on_failure=failures.append) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(have_a_failing_helper)
        ref.tell_nowait(hang)
        await trio.sleep(2)
        ref.tell_nowait("well again")
    assert diary == ["start", "stop", "start", "well again", "stop"]
    assert len(failures) == 1
    assert isinstance(failures[0].error, LookupError)


async def test_several_things_that_fail_together_are_reported_together(autojump_clock: object) -> None:
    failures: list[Failure] = []

    async def have_a_helper_that_fails_when_cancelled(actor: Diarist) -> None:
        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("helper")

        actor.context.start_soon(fail)
        await trio.sleep(1)
        raise ValueError("actor")

    async with open_supervisor(on_failure=failures.append) as supervisor:
        ref = await supervisor.start(lambda: Diarist([]), name="a")
        ref.tell_nowait(have_a_helper_that_fails_when_cancelled)
    error = failures[0].error
    assert isinstance(error, ExceptionGroup)
    assert {type(each) for each in error.exceptions} == {ValueError, LookupError}


async def test_a_helper_of_on_start_that_fails_fails_the_start(autojump_clock: object) -> None:
    async def on_start(actor: Diarist) -> None:
        await have_a_failing_helper(actor)
        await trio.sleep_forever()

    async with open_supervisor() as supervisor:
        with pytest.raises(LookupError, match="helper"):
            await supervisor.start(lambda: Diarist([], on_start), name="a")


async def test_tell_later_comes_in_time_even_when_the_mailbox_is_full(autojump_clock: object) -> None:
    diary: list[str] = []

    async def on_start(actor: Diarist) -> None:
        actor.context.tell_later(2, "later")
        actor.context.tell_later(1, "sooner")

    async with open_supervisor() as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary, on_start), name="a", capacity=1)
        await trio.sleep(1.5)
        assert diary == ["start", "sooner"]
        ref.tell_nowait(sleep_a_little)
        await trio.sleep(0)
        await ref.tell("waiting")
        await trio.sleep(1.5)
    assert diary == ["start", "sooner", "waiting", "later", "stop"]


@pytest.mark.parametrize("end", ["failure", "drain"])
async def test_tell_later_is_forgotten_when_the_actor_ends_before(end: str, autojump_clock: object) -> None:
    diary: list[str] = []

    async def set_a_timer(actor: Diarist) -> None:
        actor.context.tell_later(1, "too late")

    async with open_supervisor(stop_seconds=10) as supervisor:
        ref = await supervisor.start(lambda: Diarist(diary), name="a")
        ref.tell_nowait(set_a_timer)
        if end == "failure":
            ref.tell_nowait(ValueError())
            ref.tell_nowait("restarted")
            await trio.sleep(2)
        else:
            ref.tell_nowait(sleep_a_little)
            ref.tell_nowait(sleep_a_little)
    assert "too late" not in diary
    assert diary[-1] == "stop"
