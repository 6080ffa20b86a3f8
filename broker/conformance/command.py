"""The client under test as a command, which the kit starts for each case and ends after it."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import attrs
import trio

from broker.conformance.cases import Case
from broker.conformance.room import ROOM
from broker.conformance.stage import Stage

STOP_SECONDS = 2.0
"""How long a command may take to end after SIGTERM."""
ERROR_CHARACTERS = 500
"""What is kept of its standard error."""


def environment_of(stage: Stage, case: Case, url: str) -> dict[str, str]:
    """Return the variables from which a client learns what it needs."""
    return {
        "GREENROOM_URL": url,
        "GREENROOM_TOKEN": stage.make_token(),
        "GREENROOM_TOKEN_URL": f"{url}/token",
        "GREENROOM_ROOM": ROOM,
        "GREENROOM_CASE": case.name,
        "GREENROOM_SILENCE_SECONDS": f"{stage.silence_seconds:g}",
    }


@attrs.frozen
class Command:
    """Runs a command as the client of a case; call it as a `Client`."""

    _arguments: Sequence[str]
    _environ: Mapping[str, str]

    async def __call__(self, stage: Stage, case: Case, url: str) -> None:
        """Start the command, give its lines to the stage, and wait for its end; if cancelled, it is ended."""
        try:
            # A session of its own, so that what it starts can be ended with it.
            process = await trio.lowlevel.open_process(
                list(self._arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._environ, **environment_of(stage, case, url)},
                start_new_session=True,
            )
        except OSError as error:
            stage.program_ended(f"{self._arguments[0]} cannot be started: {error.strerror}")
            return
        errors = bytearray()

        def keep(line: bytes) -> None:
            errors.extend(line + b"\n")
            del errors[:-ERROR_CHARACTERS]

        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_lines, process.stderr, keep)
                nursery.start_soon(
                    _read_lines, process.stdout, lambda line: stage.line(line.decode(errors="replace"))
                )
                await process.wait()
                # What it has left behind may hold the pipes open.
                _kill(process, signal.SIGKILL)
                nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS
            text = errors.decode(errors="replace").strip()
            stage.program_ended(f"status {process.returncode}" + (f": {text}" if text else ""))
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2 * STOP_SECONDS):
                await _end(process)


async def _read_lines(stream: trio.abc.ReceiveStream, handle: Callable[[bytes], None]) -> None:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + bytes(data)).split(b"\n")
        for line in lines:
            handle(line)
    if rest:
        handle(rest)


async def _end(process: trio.Process) -> None:
    """End the command and what it has started: with SIGTERM, and with SIGKILL after a while."""
    if process.returncode is None:
        _kill(process, signal.SIGTERM)
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
    _kill(process, signal.SIGKILL)
    await process.wait()


def _kill(process: trio.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
