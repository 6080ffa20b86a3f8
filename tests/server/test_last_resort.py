"""A server ends after its drain window, or after a second signal, whatever hangs in it. Real processes that do hang."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.server import hanging

TEST_SECONDS = 120
NEVER_SECONDS = 3600
RESEND_SECONDS = 0.3


@attrs.define
class Program:
    """A program in which something is going to hang."""

    process: trio.Process
    lines: "trio.MemoryReceiveChannel[str]"
    log: bytearray

    async def wait(self) -> int:
        return await self.process.wait()

    async def signal_until_it_ends(self) -> int:
        """Send one signal after another: those that come too close together are one to the system."""
        while self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with trio.move_on_after(RESEND_SECONDS):
                await self.process.wait()
        return self.process.returncode

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.split(b"\n") if line]


@asynccontextmanager
async def program(what: str, window_seconds: float, folder: Path) -> AsyncIterator[Program]:
    """Run `hanging.py` until it hangs; all but requests do so after a first SIGTERM."""
    command = [sys.executable, hanging.__file__, what, str(window_seconds), str(folder)]
    with trio.fail_after(TEST_SECONDS):
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        sender, receiver = trio.open_memory_channel[str](1000)
        running = Program(process, receiver, bytearray())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_lines, process.stdout, sender)
                nursery.start_soon(read_all, process.stderr, running.log)
                url = urlsplit(await receiver.receive())
                async with await trio.open_tcp_stream(url.hostname, url.port) as client:
                    await client.send_all(b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n")
                    if what not in hanging.REQUESTS:
                        assert b"204" in await client.receive_some()
                        process.send_signal(signal.SIGTERM)
                    if what != "nothing":
                        assert await receiver.receive() == "hanging"
                    yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
                await process.wait()


async def read_lines(stream: trio.abc.ReceiveStream, lines: "trio.MemorySendChannel[str]") -> None:
    text = b""
    with lines:
        async for received in stream:
            *whole, text = (text + received).split(b"\n")
            for line in whole:
                await lines.send(line.decode())


async def read_all(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
    async for received in stream:
        into += received


@pytest.mark.parametrize("what", hanging.ALL)
async def test_it_ends_after_the_drain_window(tmp_path, what):
    async with program(what, 0, tmp_path) as running:
        if what in hanging.REQUESTS:
            running.process.send_signal(signal.SIGTERM)
        assert await running.wait() == 1
    assert "process ended by force" in running.events()
    assert b"it drained too long" in running.log


@pytest.mark.parametrize("what", hanging.ALL)
async def test_it_ends_after_a_second_signal(tmp_path, what):
    """And not by the drain window, which is longer than the test."""
    async with program(what, NEVER_SECONDS, tmp_path) as running:
        assert await running.signal_until_it_ends() == 1
    assert "process ended by force" in running.events()
    assert b"a second signal did not end it" in running.log


async def test_a_program_that_stops_by_itself_is_left_alone(tmp_path):
    async with program("nothing", 0, tmp_path) as running:
        assert await running.wait() == 0
    assert running.events()[-1] == "stopped"
    assert "process ended by force" not in running.events()
