"""Each scenario runs as often as it has steps, and is cancelled at another step each time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors import (
    Actor,
    ActorError,
    Context,
    EscalatedError,
    Ref,
    Registry,
    Reply,
    RestartPolicy,
    Supervisor,
    open_supervisor,
)

Scenario: TypeAlias = Callable[[trio.CancelScope], Awaitable[None]]


class Canceller(trio.abc.Instrument):
    """Cancels its scope when the given step of the run, of whichever task, is about to be made."""

    def __init__(self, step: int) -> None:
        self.steps_left = step
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            self.scope.cancel()


async def run_once(scenario: Scenario, scope: trio.CancelScope) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.fail_after(1000):  # virtual seconds: whatever hangs, hangs longer
        await scenario(scope)
    assert trio.lowlevel.current_statistics().tasks_living == before


def cancel_at_every_step(scenario: Scenario) -> None:
    """Run a scenario until it gets by uncancelled."""
    for step in count(1):
        canceller = Canceller(step)
        clock = MockClock(autojump_threshold=0)
        trio.run(run_once, scenario, canceller.scope, clock=clock, instruments=[canceller])
        if canceller.steps_left > 0:
            assert step > 10, "the scenario is too short to have been cancelled in earnest"
            return


@attrs.frozen
class Work:
    name: str
    reply: Reply[str] | None = None


@attrs.define
class Site:
    """The history of a scenario's workers."""

    begun: int = 0
    started: int = 0
    stopped: int = 0
    helpers: int = 0
    done: list[str] = attrs.Factory(list)


class Worker(Actor[Work]):
    """Takes a while over everything, has a helper, and fails over work named `fail`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._context: Context[Work]

    async def on_start(self, context: Context[Work]) -> None:
        self._context = context
        self._site.begun += 1
        context.start_soon(self._help)
        await trio.sleep(1)
        context.tell_later(1, Work("timer"))
        self._site.started += 1

    async def _help(self) -> None:
        self._site.helpers += 1
        try:
            await trio.sleep_forever()
        finally:
            self._site.helpers -= 1

    async def receive(self, message: Work) -> None:
        await trio.sleep(0.5)
        self._site.done.append(message.name)
        if message.name == "fail":
            raise ZeroDivisionError
        if message.reply is not None:
            message.reply.set(f"{message.name} done")

    async def on_stop(self) -> None:
        await trio.sleep(0.5)
        self._site.stopped += 1


def check_nothing_is_left(site: Site, supervisor: Supervisor) -> None:
    assert site.stopped == site.started
    assert site.helpers == 0
    assert supervisor.statistics().actors == 0


async def ask(ref: Ref[Work], name: str, outcomes: list[str]) -> None:
    try:
        outcomes.append(await ref.ask(lambda reply: Work(name, reply)))
    except ActorError as error:
        outcomes.append(type(error).__name__)


async def whole_program(scope: trio.CancelScope) -> None:
    site, outcomes, asked = Site(), list[str](), 0
    async with trio.open_nursery() as outside:
        with scope:
            async with open_supervisor(stop_seconds=5) as supervisor:
                registry: Registry[str, Work] = Registry(
                    supervisor, lambda _key: lambda: Worker(site), name="worker", idle_seconds=1
                )
                ref = await supervisor.start(lambda: Worker(site), name="worker", capacity=2)
                for name in ("one", "fail", "two", "fail"):
                    outside.start_soon(ask, ref, name, outcomes)
                    asked += 1
                await registry.tell("a", Work("three"))
                await registry.ask("a", lambda reply: Work("four", reply))
                await trio.sleep(3)
                registry.passivate_idle()
                await registry.tell("a", Work("five"))
    check_nothing_is_left(site, supervisor)
    assert len(outcomes) == asked
    assert len(registry) == 0
    if not scope.cancelled_caught:
        assert sorted(outcomes) == ["ActorFailedError", "ActorFailedError", "one done", "two done"]
        assert Counter(site.done)["five"] == 1


async def one_start(scope: trio.CancelScope) -> None:
    site = Site()
    async with open_supervisor() as supervisor:
        ref = None
        with scope:
            ref = await supervisor.start(lambda: Worker(site), name="worker")
        assert supervisor.statistics().actors == (0 if ref is None else 1)
        assert site.helpers == (0 if ref is None else 1)
        again = await supervisor.start(lambda: Worker(site), name="again")
        assert await again.ask(lambda reply: Work("well", reply)) == "well done"
    check_nothing_is_left(site, supervisor)


async def one_ask(scope: trio.CancelScope) -> None:
    site = Site()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start(lambda: Worker(site), name="worker")
        answer = ""
        with scope:
            await trio.sleep(0)
            answer = await ref.ask(lambda reply: Work("asked", reply))
        assert ref.statistics().open_replies == 0
        assert await ref.ask(lambda reply: Work("well", reply)) == "well done"
        assert Counter(site.done)["asked"] in ({1} if answer else {0, 1})
    check_nothing_is_left(site, supervisor)


async def tells_to_a_full_mailbox(scope: trio.CancelScope) -> None:
    site, accepted = Site(), list[str]()

    async def tell(ref: Ref[Work], name: str) -> None:
        await ref.tell(Work(name))
        accepted.append(name)

    async with open_supervisor() as supervisor:
        ref = await supervisor.start(lambda: Worker(site), name="worker", capacity=1)
        with scope:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(tell, ref, f"{number}")
        await tell(ref, "last")
    assert [name for name in site.done if name != "timer"] == accepted
    assert accepted[-1] == "last"
    check_nothing_is_left(site, supervisor)


async def one_of_two_who_get_by_key(scope: trio.CancelScope) -> None:
    site = Site()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        registry: Registry[str, Work] = Registry(
            supervisor, lambda _key: lambda: Worker(site), name="worker", idle_seconds=1
        )

        async def tell_patiently() -> None:
            await registry.tell("a", Work("patient"))

        nursery.start_soon(tell_patiently)
        accepted = False
        with scope:
            await registry.tell("a", Work("impatient"))
            accepted = True
        await trio.sleep(5)
        assert Counter(site.done)["patient"] == 1
        assert Counter(site.done)["impatient"] == accepted
        assert registry.statistics().started == 1
    check_nothing_is_left(site, supervisor)


async def one_who_waits_for_a_stop(scope: trio.CancelScope) -> None:
    site = Site()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start(lambda: Worker(site), name="worker")
        ref.tell_nowait(Work("last"))
        has_begun = False
        with scope:
            await trio.sleep(0)
            has_begun = True
            await ref.stop()
        if has_begun:
            await trio.sleep(2)
            assert ref.statistics().is_stopped
            assert site.done == ["last"]
    check_nothing_is_left(site, supervisor)


async def an_escalation(scope: trio.CancelScope) -> None:
    site = Site()
    supervisors = []

    async def fail_too_often() -> None:
        async with open_supervisor(RestartPolicy(intensity=1), stop_seconds=2) as supervisor:
            supervisors.append(supervisor)
            await supervisor.start(lambda: Worker(site), name="sibling")
            bad = await supervisor.start(lambda: Worker(site), name="bad")
            for _ in range(3):
                await bad.tell(Work("fail"))
            await trio.sleep(100)

    errors: tuple[Exception, ...] = ()
    try:
        with scope:
            await fail_too_often()
    except ExceptionGroup as group:
        errors = group.exceptions
    assert [type(error) for error in errors] in ([], [EscalatedError])
    assert errors or scope.cancelled_caught
    for supervisor in supervisors:
        check_nothing_is_left(site, supervisor)


async def an_end_under_way(scope: trio.CancelScope) -> None:
    site = Site()
    outcomes: list[str] = []
    async with trio.open_nursery() as outside:
        with scope:
            async with open_supervisor(stop_seconds=2) as supervisor:
                for name in ("a", "b"):
                    ref = await supervisor.start(lambda: Worker(site), name=name)
                    for _ in range(8):
                        ref.tell_nowait(Work("work"))
                    outside.start_soon(ask, ref, "late", outcomes)
    check_nothing_is_left(site, supervisor)
    assert set(outcomes) <= {"late done", "ActorStoppedError"}


@pytest.mark.parametrize(
    "scenario",
    [
        whole_program,
        one_start,
        one_ask,
        tells_to_a_full_mailbox,
        one_of_two_who_get_by_key,
        one_who_waits_for_a_stop,
        an_escalation,
        an_end_under_way,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_cancelled_at_every_step(scenario: Scenario) -> None:
    for _ in range(5):  # the order in which trio runs tasks is random
        cancel_at_every_step(scenario)


def test_the_harness_detects_a_hang() -> None:
    async def hang(_scope: trio.CancelScope) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        cancel_at_every_step(hang)
