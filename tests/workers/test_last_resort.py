"""`greenroom serve --workers` ends whatever hangs in its workers."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.redis import RedisServer, redis
from tests.workers.test_serve import serving

__all__ = ["redis"]

NEVER_SECONDS = "3600"

HANGING = """
import sys

if "--worker" in sys.orig_argv:
    import threading, time

    def make_hang():
        while not hasattr(sys.modules.get("broker.server"), "Broker"):
            time.sleep(0.01)

        async def hang(self, window_seconds):
            import trio

            self._services.log.info("hanging")
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

        broker = sys.modules["broker.server"].Broker
        assert hasattr(broker, "_disconnect_all")
        broker._disconnect_all = hang

    threading.Thread(target=make_hang, daemon=True).start()
"""


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    """A path on which Python finds what makes the drain of a worker hang."""
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    return str(tmp_path)


def is_there(process_id: int) -> bool:
    return Path(f"/proc/{process_id}").exists()


async def test_workers_that_hang_end_after_the_window(redis: RedisServer, hanging: str):
    environ = {"PYTHONPATH": hanging, "GREENROOM_SERVER__DRAIN_SECONDS": "0"}
    async with serving("--workers", "2", "--engine", redis.url, **environ) as served:
        await served.until("workers listening")
        workers = served.children()
        served.process.send_signal(signal.SIGTERM)
        # By themselves, or killed by their parent where the machine is too busy for that.
        assert await served.process.wait() == 1
        assert [is_there(worker) for worker in workers] == [False, False]


async def test_workers_that_hang_end_after_a_second_signal(redis: RedisServer, hanging: str):
    environ = {"PYTHONPATH": hanging, "GREENROOM_SERVER__DRAIN_SECONDS": NEVER_SECONDS}
    async with serving("--workers", "2", "--engine", redis.url, **environ) as served:
        await served.until("workers listening")
        served.process.send_signal(signal.SIGTERM)
        await served.until("hanging", count=2)
        workers = served.children()
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 1
        assert [is_there(worker) for worker in workers] == [False, False]


async def test_workers_that_stand_still_are_killed_after_a_second_signal(redis: RedisServer):
    async with serving(
        "--workers", "2", "--engine", redis.url, GREENROOM_SERVER__DRAIN_SECONDS=NEVER_SECONDS
    ) as served:
        await served.until("workers listening")
        for worker in served.children():
            os.kill(worker, signal.SIGSTOP)
        served.process.send_signal(signal.SIGTERM)
        await served.until("stopping workers")
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 1
