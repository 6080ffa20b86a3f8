"""The thread that ends the process, in programs that do little else."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading, time
import trio
from broker.watchdog import watchdog
from broker.log import stdlib_log

events = []

def is_flushed():
    sys.stdout.write("asked\\n")
    sys.stdout.flush()
    events.append(None)
    return len(events) == 3

async def main():
    with watchdog(stdlib_log(), drain_seconds={drain}, at_once_seconds={at_once}, is_flushed={is_flushed}):
        for _ in range({signals}):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        {body}
    print("left")

signal.signal(signal.SIGTERM, lambda *_: None)
trio.run(main)
os.kill(os.getpid(), signal.SIGTERM)
print(threading.active_count(), signal.set_wakeup_fd(-1))
"""
HANG = "threading.Event().wait()"


def run(**values: object) -> tuple[int, list[str]]:
    program = PROGRAM.format(**{"drain": 1e6, "at_once": 1e6, "is_flushed": "lambda: True", **values})
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, timeout=120, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("signals", [0, 1, 2])
def test_a_block_that_ends_in_time_is_left_alone_and_leaves_nothing_behind(signals):
    assert run(signals=signals, body="await trio.sleep(0)") == (0, ["left", "1 -1"])


def test_the_first_signal_sets_the_longer_limit_and_the_second_the_shorter():
    assert run(signals=1, drain=0.1, body=HANG) == (1, [])
    assert run(signals=2, at_once=0.1, body=HANG) == (1, [])
    assert run(signals=2, drain=0.1, body=HANG) == (1, [])


def test_the_watchdog_waits_for_a_commit_but_not_for_ever():
    assert run(signals=1, drain=0.1, body=HANG, is_flushed="is_flushed") == (1, ["asked"] * 3)
    assert run(signals=1, drain=0.1, body=HANG, is_flushed="lambda: False") == (1, [])
    assert run(signals=1, drain=0.1, body=HANG, is_flushed="lambda: 1 / 0") == (1, [])


def test_signals_still_wake_the_event_loop():
    body = """
        woken = trio.Event()
        token = trio.lowlevel.current_trio_token()
        signal.signal(signal.SIGUSR1, lambda *_: token.run_sync_soon(woken.set))
        threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)).start()
        await woken.wait()"""
    assert run(signals=0, body=body) == (0, ["left", "1 -1"])
