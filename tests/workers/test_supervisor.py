"""The parent of workers, with small programs for workers."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from broker.errors import ConfigurationError, GreenroomError, StoppedAtOnceError
from broker.workers.parent_pipe import drain_without_parent
from broker.workers.supervisor import Supervisor, WorkerError
from tests.support.logs import RecordingLog
from tests.support.patience import PATIENCE_SECONDS

WORKER = """
import os, signal, sys, time
folder, index, kind = sys.argv[1:]
def note(what):
    with open(f"{folder}/{index}", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")
def stop(number, frame):
    note("asked")
    if kind == "stubborn" or kind == "slow" and stop.calls == 0:
        stop.calls += 1
        return
    note("stopped")
    os._exit({"failing": 3, "slow": 1}.get(kind, 0))
stop.calls = 0
if kind.startswith("exit"):
    sys.exit(int(kind[4:]))
if kind == "stuck":
    # A real event loop, which one of its tasks holds up for ever.
    import trio
    from broker.workers.heartbeat import send_heartbeats
    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: send_heartbeats(1, limit_seconds=1.0))
            note("started")
            os.write(1, b"serving\\n")
            await trio.sleep(0.3)
            time.sleep(3600)
    trio.run(main)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: None)
note("started")
print("serving", flush=True)
while True:
    time.sleep(60)
"""


@attrs.define
class Group:
    """A running supervisor, and what its workers have written down."""

    folder: Path
    log: RecordingLog
    serving: trio.Event
    done: trio.Event
    scope: trio.CancelScope
    failure: GreenroomError | None = None

    def notes(self, index: int, what: str) -> list[int]:
        """Return the process ids with which a worker noted something."""
        try:
            lines = (self.folder / f"{index}").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [int(line.split()[1]) for line in lines if line.split()[0] == what]

    async def wait_notes(self, index: int, what: str, count: int) -> list[int]:
        while len(self.notes(index, what)) < count:  # noqa: ASYNC110  # files tell nobody of their changes
            await trio.sleep(0.01)
        return self.notes(index, what)

    async def end(self) -> GreenroomError | None:
        """Ask for a drain, as an operator does, and wait for the end; returns what was raised."""
        os.kill(os.getpid(), signal.SIGTERM)
        await self.done.wait()
        return self.failure


@asynccontextmanager
async def group_of(
    folder: Path, *kinds: str, stop_seconds: float = PATIENCE_SECONDS, silence_seconds: float = 600.0
) -> AsyncIterator[Group]:
    serving, done, log = trio.Event(), trio.Event(), RecordingLog()
    supervisor = Supervisor(
        lambda index: [
            *(sys.executable, *([] if kinds[index] == "stuck" else ["-S"])),
            *("-c", WORKER, str(folder), f"{index}", kinds[index]),
        ],
        len(kinds),
        environ=os.environ,
        log=log,
        stop_seconds=stop_seconds,
        silence_seconds=silence_seconds,
        on_serving=serving.set,
    )
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            group = Group(folder, log, serving, done, nursery.cancel_scope)

            async def run() -> None:
                try:
                    await supervisor.run()
                except GreenroomError as error:
                    group.failure = error
                finally:
                    done.set()

            nursery.start_soon(run)
            yield group
            nursery.cancel_scope.cancel()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_all_serve_and_all_drain_together(tmp_path):
    async with group_of(tmp_path, "good", "good", "good") as group:
        await group.serving.wait()
        assert await group.end() is None
        for index in range(3):
            assert len(group.notes(index, "asked")) == len(group.notes(index, "stopped")) == 1
        assert group.log.events[-1] == "workers stopped"


async def test_one_that_dies_is_started_again_and_the_others_go_on(tmp_path):
    async with group_of(tmp_path, "good", "good") as group:
        await group.serving.wait()
        (first,) = group.notes(0, "started")
        os.kill(first, signal.SIGKILL)
        assert len(set(await group.wait_notes(0, "started", 2))) == 2
        _, event, fields = group.log.lines[0]
        assert event == "worker ended"
        assert (fields["worker"], fields["status"]) == (0, -9)
        assert 0.2 <= fields["again_in_seconds"] <= 0.5
        assert len(group.notes(1, "started")) == 1
        assert await group.end() is None


async def test_a_drain_does_not_wait_for_one_that_is_to_be_started_again(tmp_path):
    async with group_of(tmp_path, "good", "good") as group:
        await group.serving.wait()
        os.kill(group.notes(0, "started")[0], signal.SIGKILL)
        while not group.log.lines:  # noqa: ASYNC110  # nor does a log
            await trio.sleep(0.01)
        assert await group.end() is None
        assert len(group.notes(0, "started")) == 1


async def test_a_second_signal_stops_at_once(tmp_path):
    async with group_of(tmp_path, "slow", "slow") as group:
        await group.serving.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await group.wait_notes(0, "asked", 1)
        await group.wait_notes(1, "asked", 1)
        assert isinstance(await group.end(), StoppedAtOnceError)
        assert len(group.notes(0, "asked")) == 2


@pytest.mark.parametrize(("status", "error"), [(2, ConfigurationError), (1, WorkerError), (0, WorkerError)])
async def test_if_one_cannot_start_all_are_stopped(tmp_path, status, error):
    async with group_of(tmp_path, "good", f"exit{status}") as group:
        await group.done.wait()
        assert type(group.failure) is error
        assert "worker 1 could not start" in str(group.failure)
        assert not group.serving.is_set()
        assert not [pid for pid in group.notes(0, "started") if is_alive(pid)]


async def test_one_that_does_not_drain_in_time_is_killed(tmp_path):
    async with group_of(tmp_path, "stubborn", "good", stop_seconds=0.5) as group:
        await group.serving.wait()
        failure = await group.end()
        assert str(failure) == "worker 0 ended with status -9"
        assert not is_alive(group.notes(0, "started")[0])


async def test_one_that_fails_in_its_drain_is_told_of(tmp_path):
    async with group_of(tmp_path, "good", "failing") as group:
        await group.serving.wait()
        assert str(await group.end()) == "worker 1 ended with status 3"


async def test_none_outlives_a_parent_that_is_cancelled(tmp_path):
    async with group_of(tmp_path, "good", "stubborn") as group:
        await group.serving.wait()
        pids = group.notes(0, "started") + group.notes(1, "started")
        group.scope.cancel()
    assert not [pid for pid in pids if is_alive(pid)]


async def test_an_interrupt_at_the_terminal_reaches_the_parent_only(tmp_path):
    async with group_of(tmp_path, "good") as group:
        await group.serving.wait()
        assert os.getpgid(group.notes(0, "started")[0]) != os.getpgid(0)
        assert await group.end() is None


async def test_a_worker_drains_when_its_parent_is_gone():
    reading, writing = os.pipe()
    with trio.fail_after(PATIENCE_SECONDS), trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_without_parent, reading)
            await trio.testing.wait_all_tasks_blocked()
            os.close(writing)
            assert await anext(signals) == signal.SIGTERM


async def test_one_whose_event_loop_stands_still_is_killed_and_started_again(tmp_path):
    async with group_of(tmp_path, "stuck", silence_seconds=1.0) as group:
        first, second = await group.wait_notes(0, "started", 2)
        assert first != second
        assert not is_alive(first)
        (_, still, told), (_, ended, status) = group.log.lines[:2]
        assert (still, told["worker"]) == ("worker stands still", 0)
        assert told["silent_seconds"] >= 1.0
        assert (ended, status["status"]) == ("worker ended", -9)
        group.scope.cancel()


async def test_one_that_is_silent_for_less_is_left_alone_and_one_that_was_stopped_still_drains(tmp_path):
    async with group_of(tmp_path, "good", "good") as group:
        await group.serving.wait()
        os.kill(group.notes(0, "started")[0], signal.SIGSTOP)
        assert await group.end() is None
        assert len(group.notes(0, "stopped")) == 1
        assert "worker stands still" not in group.log.events


async def test_a_hangup_ends_nothing(tmp_path):
    async with group_of(tmp_path, "good") as group:
        await group.serving.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        while not group.log.lines:  # noqa: ASYNC110  # nor does a log
            await trio.sleep(0.01)
        assert group.log.events[0] == "hangup passed on"
        assert not group.done.is_set()
        assert await group.end() is None
