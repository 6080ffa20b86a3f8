"""The reader of the log stops or ends: the server still serves, counts dropped lines, and stops."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import trio

from tests.support.listening import find_port
from tests.support.secrets import ENVIRON

SAFETY_SECONDS = 120


def fill(descriptor: int) -> None:
    """Write until not one byte more fits, without changing the mode of the server's own end."""
    with open(f"/proc/self/fd/{descriptor}", "wb", buffering=0, opener=open_nonblocking) as end:
        for size in (4096, 1):
            while end.write(b"x" * size):
                pass


def open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def unread_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    fill(writing)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def stopped_reader() -> Iterator[int]:
    reading, writing = os.pipe()
    reader = subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
    os.close(reading)
    reader.send_signal(signal.SIGSTOP)
    fill(writing)
    try:
        yield writing
    finally:
        os.close(writing)
        reader.kill()
        reader.wait()


@contextmanager
def terminal_that_is_held() -> Iterator[int]:
    """A terminal nobody reads, as behind Ctrl-S or a connection that hangs."""
    master, slave = pty.openpty()
    fill(slave)
    try:
        yield slave
    finally:
        os.close(slave)
        os.close(master)


@contextmanager
def reader_that_is_gone() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


STREAMS = [unread_pipe, stopped_reader, terminal_that_is_held, reader_that_is_gone, full_disk]


async def wait_port(pid: int) -> int:
    """Wait until the process listens; files of /proc tell nobody of their changes."""
    while (port := find_port(pid)) is None:
        await trio.sleep(0.05)
    return port


async def send_nonsense(port: int) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"nonsense\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("streams", "is_dev", "bad_requests"),
    [(unread_pipe, False, 2000), *((streams, True, 100) for streams in STREAMS), (full_disk, False, 100)],
)
async def test_a_server_outlives_the_reader_of_its_log(
    streams: Callable[[], AbstractContextManager[int]], is_dev: bool, bad_requests: int
) -> None:
    command = [sys.executable, "-m", "broker", "serve", "--port", "0", *(["--dev"] if is_dev else [])]
    environ = {**os.environ, **ENVIRON, "GREENROOM_SERVER__DRAIN_SECONDS": "0.1"}
    with trio.fail_after(SAFETY_SECONDS), streams() as output:
        # Both streams: the notes of --dev go to standard output.
        process = await trio.lowlevel.open_process(command, stdout=output, stderr=output, env=environ)
        try:
            port = await wait_port(process.pid)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(send_many, port, bad_requests // 4)
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                metrics = (await client.get("/metrics")).text
            refused = rf'^greenroom_refusals_total{{.*reason="bad_head".*}} {bad_requests}\.0$'
            assert re.search(refused, metrics, re.MULTILINE)
            assert re.search(r"^greenroom_log_lines_dropped_total{.*} \d", metrics, re.MULTILINE)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAFETY_SECONDS):
                await process.wait()


async def send_many(port: int, count: int) -> None:
    for _ in range(count):
        await send_nonsense(port)
