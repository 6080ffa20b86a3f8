"""One hook in virtual time: its time limit, its bounds, and the stand-in for an application that is away."""

from collections import Counter
from collections.abc import Awaitable, Callable
from io import StringIO
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.settings import LogSettings
from broker.errors import ErrorCode, Refused
from broker.hooks.answers import Allowed
from broker.hooks.ask import Ask, Caller, HookKind
from broker.hooks.gate import Gate, GateOptions, HookFailedError, Outcome
from broker.log import open_log

ALLOW = b'{"allow":true}'
Step = Callable[[], Awaitable[bytes]]


def ask_of(user: str = "ann", room: str = "a", kind: HookKind = HookKind.JOIN) -> Ask:
    return Ask(kind, Caller(user, "c-1", "websocket", "10.0.0.1", {"sub": user}), room)


@attrs.define
class World:
    """A gate and what its application does; it notes how many questions were on their way at once."""

    step: Step
    options: dict[str, Any] = attrs.Factory(dict)
    log: StringIO = attrs.Factory(StringIO)
    under_way: int = 0
    most: int = 0
    asked: int = 0
    gate: Gate = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        options = GateOptions(frozenset([HookKind.JOIN, HookKind.CALL]), **self.options)
        self.gate = Gate(
            "0", "http://app", options, self._send, open_log(LogSettings(format="json"), self.log)
        )

    async def _send(self, _ask: Ask) -> bytes:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self.step()
        finally:
            self.under_way -= 1

    async def decide(self, user: str = "ann", kind: HookKind = HookKind.JOIN) -> str:
        try:
            await self.gate.decide(ask_of(user, kind=kind))
        except Refused as refused:
            return refused.code.value
        return "allowed"


async def hang() -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def fail() -> bytes:
    raise HookFailedError("connection refused")


def after(seconds: float, body: bytes = ALLOW) -> Step:
    async def answer() -> bytes:
        await trio.sleep(seconds)
        return body

    return answer


async def test_the_time_limit_includes_the_queue(autojump_clock: MockClock) -> None:
    world = World(after(0.9), {"concurrency": 2, "queue": 100})
    results: Counter[str] = Counter()

    async def decide(number: int) -> None:
        results[await world.decide(f"user {number}")] += 1

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(decide, number)
    assert trio.current_time() - began == pytest.approx(2.0)
    # Two at a time: two rounds fit, and the third is given up in its midst.
    assert results == {"allowed": 4, "unavailable": 6}
    assert (world.asked, world.most) == (6, 2)
    assert world.gate.outcomes == {Outcome.ALLOWED: 4, Outcome.TIMEOUT: 2, Outcome.NOT_ASKED: 4}
    assert sum(world.gate.buckets) == 4
    assert not world.gate.is_away


async def test_a_full_queue_refuses_at_once_and_one_user_has_a_quarter(autojump_clock: MockClock) -> None:
    world = World(hang, {"concurrency": 4, "queue": 12})
    results: list[tuple[str, str]] = []

    async def decide(user: str) -> None:
        results.append((user, await world.decide(user)))

    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            for user in [*(["greedy"] * 6), *(f"user {number}" for number in range(14))]:
                nursery.start_soon(decide, user)
                await wait_all_tasks_blocked()
    greedy = [result for user, result in results if user == "greedy"]
    others = [result for user, result in results if user != "greedy"]
    assert (greedy, others) == (["rate_limited"] * 2, ["unavailable"] * 2)
    assert world.asked == 4
    assert world.gate.outcomes[Outcome.ABANDONED] == 16
    world.step = after(0)
    assert await world.decide("greedy") == "allowed"


@pytest.mark.parametrize("step", [hang, fail, after(0, b"rubbish"), after(0, b'{"allow":1}')])
@pytest.mark.parametrize("when_away", ["refuse", "allow"])
async def test_an_application_that_is_away_is_asked_seldom_until_it_is_back(
    autojump_clock: MockClock, step: Step, when_away: str
) -> None:
    stand_in = {"refuse": "unavailable", "allow": "allowed"}[when_away]
    world = World(step, {"when_away": when_away})
    for _ in range(5):
        assert await world.decide() == stand_in
    began = trio.current_time()
    for _ in range(100):
        assert await world.decide() == stand_in
    assert (world.asked, trio.current_time()) == (5, began)
    for _ in range(600):
        await trio.sleep(0.5)
        assert await world.decide() == stand_in
    assert 8 <= world.asked - 5 <= 25, "once in 30 s at last"
    world.step = after(0)
    await trio.sleep(30)
    assert [await world.decide() for _ in range(20)] == ["allowed"] * 20
    lines = world.log.getvalue()
    assert (lines.count('"hook away"'), lines.count('"hook back"')) == (1, 1)
    assert lines.count('"hook failed"') <= 2


@pytest.mark.parametrize("when_away", ["refuse", "allow"])
async def test_a_call_that_nobody_answers_is_unavailable_whatever_the_policy(
    autojump_clock: MockClock, when_away: str
) -> None:
    world = World(hang, {"when_away": when_away, "concurrency": 1, "queue": 1})
    results: list[str] = []

    async def call(user: str) -> None:
        results.append(await world.decide(user, HookKind.CALL))

    async with trio.open_nursery() as nursery:
        for user in ("first", "waits", "has no place"):
            nursery.start_soon(call, user)
            await wait_all_tasks_blocked()
        assert results == ["unavailable"], "the queue is full"
    for step in (fail, after(0, b"rubbish"), after(0, b'{"allow":true,"info":1}'), hang):
        world.step = step
        await call("ann")
    assert world.gate.is_away
    for _ in range(3):
        await call("ann")
    assert results == ["unavailable"] * 10
    stand_in = {"refuse": "unavailable", "allow": "allowed"}[when_away]
    assert await world.decide() == stand_in, "the policy still holds for joins"


async def test_only_one_probe_is_under_way_and_one_that_is_given_up_makes_room(
    autojump_clock: MockClock,
) -> None:
    world = World(fail)
    for _ in range(5):
        await world.decide()
    await trio.sleep(1)
    world.step, world.most = hang, 0
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(world.decide, f"user {number}")
        await wait_all_tasks_blocked()
        assert world.most == 1
        nursery.cancel_scope.cancel()
    world.step = after(0)
    assert await world.decide() == "allowed"


async def test_a_refusal_says_when_to_come_back(autojump_clock: MockClock) -> None:
    world = World(fail)
    for _ in range(5):
        await world.decide()
    await trio.sleep(1)
    await world.decide()  # the first probe
    with pytest.raises(Refused) as caught:
        await world.gate.decide(ask_of())
    assert (caught.value.code, caught.value.retry_after_ms) == (ErrorCode.UNAVAILABLE, 2000)
    world.step = after(0, b'{"allow":false,"reason":"no"}')
    await trio.sleep(2)
    for code, retry in (("forbidden", None), ("rate_limited", 1000), ("unavailable", 1000)):
        world.step = after(0, b'{"allow":false,"reason":"no","code":"%s"}' % code.encode())
        with pytest.raises(Refused) as caught:
            await world.gate.decide(ask_of())
        assert (caught.value.code, caught.value.message, caught.value.retry_after_ms) == (code, "no", retry)
    assert not world.gate.is_away, "a refusal is an answer"


steps = st.sampled_from(
    [hang, fail, after(0), after(0.3), after(5), after(0.1, b"rubbish"), after(0.2, b'{"allow":false}')]
)
callers = st.tuples(st.floats(0, 20), st.integers(0, 3), steps, st.none() | st.floats(0, 3))


@given(
    st.lists(callers, max_size=40), st.integers(1, 4), st.integers(0, 8), st.sampled_from(["refuse", "allow"])
)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_each_question_is_decided_in_time_and_nothing_is_left(
    calls: list[tuple[float, int, Step, float | None]], concurrency: int, queue: int, when_away: str
) -> None:
    async def main() -> None:
        world = World(hang, {"concurrency": concurrency, "queue": queue, "when_away": when_away})
        ended: list[object] = []

        async def call(at: float, user: int, step: Step, gone_after: float | None) -> None:
            await trio.sleep(at)

            async def send(_ask: Ask) -> bytes:
                return await step()

            gate = world.gate
            began = trio.current_time()
            with trio.move_on_after(float("inf") if gone_after is None else gone_after):
                gate._send = send
                try:
                    ended.append(await gate.decide(ask_of(f"user {user}")))
                except Refused as refused:
                    ended.append(refused)
                    # Whoever waits long enough is answered.
                assert trio.current_time() - began <= 2.0 + 1e-9
                return
            ended.append(None)

        async with trio.open_nursery() as nursery:
            for each in calls:
                nursery.start_soon(call, *each)
        assert len(ended) == len(calls)
        gate = world.gate
        assert sum(gate.outcomes.values()) >= len(calls) - ended.count(None)
        assert (gate._present, dict(gate._by_user), gate._turns.value) == (0, {}, concurrency)

        async def answer(_ask: Ask) -> bytes:
            return ALLOW

        gate._send = answer
        await trio.sleep(31)
        assert isinstance(await gate.decide(ask_of()), Allowed), "it comes back from anything"

    trio.run(main, clock=MockClock(autojump_threshold=0))
