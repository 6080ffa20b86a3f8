"""Ages follow the age clock, under any steps of the wall clock."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.age_clock import STEP_SECONDS, EngineClock
from broker.engine.base import Engine, Retention
from broker.engine.memory import MemoryEngine
from broker.engine.redis.node_clock import AGREE_SECONDS, NodeClock
from broker.engine.sqlite.engine import open_sqlite
from broker.model import Draft, IdempotencyKey

HOUR = 3600.0
DAY = 24 * HOUR
WINDOW_SECONDS = 300.0
KEEP = Retention(1000, 1 << 30, DAY)


@attrs.define
class Machine:
    """A machine with its clocks."""

    wall: float = 1_700_000_000.0
    boot: float = 1234.5
    boot_id: str = "first"

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds

    def reboot(self, *, off_seconds: float) -> None:
        self.wall += off_seconds
        self.boot, self.boot_id = 20.0, self.boot_id + "+"


@attrs.define
class Lines:
    """A log that keeps its warnings."""

    warnings: list[tuple[str, dict[str, object]]] = attrs.Factory(list)

    def warning(self, event: str, **fields: object) -> None:
        self.warnings.append((event, fields))


def engine_clock(machine: Machine, log: Lines | None = None) -> EngineClock:
    return EngineClock(lambda: machine.wall, log or Lines(), boot_clock=lambda: machine.boot)  # type: ignore[arg-type]


steps = st.floats(-1e9, 1e9).filter(lambda seconds: abs(seconds) >= 2 * STEP_SECONDS)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | steps), max_size=20))
def test_ages_ignore_steps_and_the_reported_time_follows_them(
    events: list[tuple[float, float | None]],
) -> None:
    machine, log = Machine(), Lines()
    clock = engine_clock(machine, log)
    began, passed = clock.age(), 0.0
    for seconds, step in events:
        machine.pass_time(seconds)
        passed += seconds
        machine.wall += step or 0.0
        moment = clock.moment()
        assert moment.age_ms == pytest.approx((began + passed) * 1000, abs=10)
        assert moment.time_ms == pytest.approx(machine.wall * 1000, abs=10)
    logged = [fields["step_seconds"] for _, fields in log.warnings]
    assert logged == pytest.approx([step for _, step in events if step is not None], abs=0.01)


def test_clocks_that_drift_apart_a_little_are_no_step() -> None:
    machine, log = Machine(), Lines()
    clock = engine_clock(machine, log)
    for _ in range(10):
        machine.pass_time(HOUR)
        machine.wall += STEP_SECONDS / 20
        moment = clock.moment()
        assert moment.age_ms == moment.time_ms
    assert log.warnings == []


async def offsets(engine: Engine, room: str = "den") -> list[int | None]:
    return [event.offset for event in (await engine.read(room)).events]


async def say(engine: Engine, key: str | None = None) -> bool:
    """Say something; returns whether it was stored."""
    draft = Draft(b"{}", key=None if key is None else IdempotencyKey("ann", key))
    [receipt] = await engine.append("den", [draft], KEEP)
    return receipt.event is not None


def memory(machine: Machine) -> MemoryEngine:
    return MemoryEngine(
        wall_clock=lambda: machine.wall, boot_clock=lambda: machine.boot, idempotency_seconds=WINDOW_SECONDS
    )


@pytest.mark.parametrize("step_seconds", [-10 * DAY, -HOUR, HOUR, 10 * DAY])
async def test_an_id_is_known_for_its_window_and_history_held_for_its_age_through_a_step(
    step_seconds: float,
) -> None:
    machine = Machine()
    engine = memory(machine)
    assert await say(engine, "k")
    machine.wall += step_seconds
    machine.pass_time(WINDOW_SECONDS - 1)
    assert not await say(engine, "k")
    machine.pass_time(1)
    assert await say(engine, "k")
    machine.pass_time(DAY - WINDOW_SECONDS - 1)
    assert await offsets(engine) == [1, 2]
    machine.pass_time(1)
    assert await offsets(engine) == [2]


def sqlite(machine: Machine, path: Path):  # type: ignore[no-untyped-def]
    return open_sqlite(
        path / "rooms.db",
        synchronous="full",
        idempotency_seconds=WINDOW_SECONDS,
        wall_clock=lambda: machine.wall,
        boot_clock=lambda: machine.boot,
        log=Lines(),  # type: ignore[arg-type]
        boot=machine.boot_id,
    )


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("step_seconds", [-10 * DAY, -HOUR, HOUR, 10 * DAY])
async def test_a_file_ages_by_the_elapsed_time_through_steps_and_restarts(
    tmp_path: Path, step_seconds: float, is_running: bool
) -> None:
    machine = Machine()
    async with sqlite(machine, tmp_path) as engine:
        assert await say(engine, "k")
        if is_running:
            machine.wall += step_seconds
            assert await say(engine)
    if not is_running:
        machine.wall += step_seconds
    machine.pass_time(100)
    async with sqlite(machine, tmp_path) as engine:
        assert not await say(engine, "k")
        machine.pass_time(200)
        assert await say(engine, "k")
        [*_, last] = (await engine.read("den")).events
        assert last.time_ms == int(machine.wall * 1000)
        machine.pass_time(DAY - 301)
        assert len(await offsets(engine)) == 2 + is_running
    machine.pass_time(1)
    async with sqlite(machine, tmp_path) as engine:
        assert await offsets(engine) == [2 + is_running]


@pytest.mark.parametrize("step_seconds", [0, -10 * DAY, 10 * DAY])
async def test_after_another_boot_downtime_counts_and_an_old_step_does_not(
    tmp_path: Path, step_seconds: float
) -> None:
    machine = Machine()
    async with sqlite(machine, tmp_path) as engine:
        assert await say(engine)
        machine.wall += step_seconds
        assert await say(engine)
    machine.reboot(off_seconds=DAY / 2)
    async with sqlite(machine, tmp_path) as engine:
        assert await offsets(engine) == [1, 2]
        assert await say(engine)
    machine.reboot(off_seconds=DAY / 2)
    async with sqlite(machine, tmp_path) as engine:
        assert await offsets(engine) == [3]


async def test_a_machine_that_comes_up_in_the_past_lets_nothing_grow_younger(tmp_path: Path) -> None:
    machine = Machine()
    async with sqlite(machine, tmp_path) as engine:
        assert await say(engine)
        machine.pass_time(DAY - 1)
        assert await say(engine)
    machine.reboot(off_seconds=-1_000 * DAY)
    async with sqlite(machine, tmp_path) as engine:
        assert await offsets(engine) == [1, 2]
        machine.pass_time(1)
        assert await offsets(engine) == [2]
        machine.pass_time(DAY)
        assert await offsets(engine) == []


@given(
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 30), st.floats(0, 1), st.sampled_from([0.0, 1e6])
)
def test_two_of_three_clocks_set_the_clock_of_a_node(
    age_off: float, wall_off: float, took_seconds: float, where: float, passed: float
) -> None:
    """`age_off` and `wall_off`: how far the node's clock and its wall clock are ahead of Redis'."""
    machine, log = Machine(), Lines()
    redis_ahead = -age_off
    clock = NodeClock(lambda: machine.wall, log, boot_clock=lambda: machine.boot)  # type: ignore[arg-type]
    machine.pass_time(passed)
    machine.wall += wall_off - age_off
    asked_at = clock.now()
    machine.pass_time(took_seconds)
    shown = clock.now()
    clock.compare("redis", asked_at + where * took_seconds + redis_ahead, asked_at=asked_at)
    slack = AGREE_SECONDS + took_seconds
    if abs(age_off) <= AGREE_SECONDS:
        assert clock.now() == shown
        assert log.warnings == []
    elif abs(age_off) > slack and abs(wall_off) <= AGREE_SECONDS:
        assert clock.now() == pytest.approx(machine.wall)
        assert len(log.warnings) == 1
    elif abs(age_off) > slack and abs(wall_off) > slack:
        assert clock.now() == shown
        clock.compare("redis", asked_at + where * took_seconds + redis_ahead, asked_at=asked_at)
        assert len(log.warnings) == 1, "it is told once"
