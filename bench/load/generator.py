"""Compiles the load generator, runs it, and reads what it says."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import msgspec

from bench.errors import BenchError, last_lines
from bench.load.dialect import NATIVE, Dialect

_SOURCES = Path(__file__).parent / "c"
_COMPILE_SECONDS = 120.0


class _Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """A line that the generator prints."""


class Joined(_Event, frozen=True):
    """Every member hears every publisher of its room; not said where joining itself is measured."""


class Measuring(_Event, frozen=True):
    """The warm-up is over; what is delivered from now on counts."""


class Measured(_Event, frozen=True):
    """The measured window is over; what is still on its way is waited for."""


class Failed(_Event, frozen=True):
    """It did not come to a measurement."""

    message: str


class Result(_Event, frozen=True):
    """The counts of one run.

    Of the measured window: `seconds`, the generator's own `cpu_seconds`, `published`, `delivered`,
    `received_bytes` and the latencies, as pairs of the highest nanoseconds in a bucket and its count; a
    ping counts as published, its answer as delivered, and so does a connection that is in its room where
    joining is measured. `crowd_delivered` and `noise_answered` are what was done for those that are not
    measured. Of the whole run: the rest. `lost` includes what connections that ended early have missed;
    `out_of_order` are frames that came after a later one of their publisher; `strayed` those of another
    room, or never published; `malformed` those whose text was altered; `other_frames` carried no text.
    """

    seconds: float
    cpu_seconds: float
    published: int
    delivered: int
    received_bytes: int
    crowd_delivered: int
    noise_answered: int
    lost: int
    duplicated: int
    out_of_order: int
    malformed: int
    strayed: int
    other_frames: int
    disconnected: int
    close_code: int
    latency_max_ns: int
    latency_ns: list[tuple[int, int]]


Event: TypeAlias = Joined | Measuring | Measured | Failed | Result


@attrs.frozen
class Load:
    """The work of the generator.

    `in_flight` is what each publisher and pinger keeps outstanding; with `rate`, a number a second for all of
    them together, they send in turn whatever comes back, and a latency counts from when the message was due.
    `noise` is a file of whole frames, one message, of which each noisy connection keeps `noise_in_flight`
    unanswered, or sends what the connection takes if that is None. With `connect_only` joining is what is
    measured, and `duration_seconds` is how long the connections then rest.

    It gives up when the members have not joined after `connect_seconds`, and stops waiting for what is
    missing once nothing has come for `drain_seconds`.
    """

    message_bytes: int = 64
    in_flight: int = 8
    rate: int | None = None
    noise: Path | None = None
    noise_in_flight: int | None = 1
    connect_only: bool = False
    warm_up_seconds: float = 1.0
    duration_seconds: float = 5.0
    connecting: int = 16
    connect_seconds: float = 60.0
    drain_seconds: float = 3.0


def compile_generator(directory: Path, *, tls: bool = False) -> Path:
    """Return the generator in `directory`, compiled there if it is not yet; only with `tls` it needs OpenSSL.

    :raises BenchError: if there is no C compiler, or it refuses, or the headers of OpenSSL are needed and not there.
    """
    name = os.environ.get("CC", "cc")
    compiler = shutil.which(name)
    if compiler is None:
        raise BenchError(
            f"the load generator is written in C and there is no compiler {name!r}: install one, or set CC"
        )
    program = directory / ("generator_tls" if tls else "generator")
    if program.exists():
        return program
    if tls and not _has_openssl(compiler):
        raise BenchError(
            "the load generator speaks TLS by OpenSSL, whose headers are not there: install libssl-dev"
        )
    flags = ("-O2", "-std=c11", "-Wall", "-Wextra", *(("-DBENCH_TLS",) if tls else ()))
    libraries = ("-lssl", "-lcrypto") if tls else ()
    sources = sorted(str(source) for source in _SOURCES.glob("*.c"))
    try:
        subprocess.run(
            [compiler, *flags, "-o", str(program), *sources, *libraries],
            check=True,
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
        )
    except subprocess.CalledProcessError as refused:
        raise BenchError(f"the load generator does not compile{last_lines(refused.stderr)}") from refused
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"the load generator is not compiled after {_COMPILE_SECONDS:g} s") from late
    return program


def _has_openssl(compiler: str) -> bool:
    tried = subprocess.run(
        [compiler, "-fsyntax-only", "-x", "c", "-"],
        input=b"#include <openssl/ssl.h>",
        capture_output=True,
        timeout=_COMPILE_SECONDS,
        check=False,
    )
    return tried.returncode == 0


@contextmanager
def generating(
    program: Path,
    load: Load,
    *,
    host: str,
    port: int,
    plan: Path,
    core: int | None,
    dialect: Dialect = NATIVE,
    tls: bool = False,
) -> Iterator[Iterator[Event]]:
    """Start the generator and yield its events, as they come; the last one is its `Result`.

    With `tls`, for which it must have been compiled, it takes any certificate.

    It ends by itself within the time its phases may take; on leaving early it is killed. Reading an
    event blocks the calling thread.

    :raises BenchError: while events are read, if it says that it failed, or ends without a result.
    """
    where = ("--host", host, "--port", str(port), "--plan", str(plan), "--tls", str(int(tls)))
    with subprocess.Popen(
        [str(program), *where, *_spoken(dialect), *_amounts(load)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield _events(process)
        finally:
            process.kill()


def _spoken(dialect: Dialect) -> Iterator[str]:
    yield from ("--hello", dialect.hello, "--welcome", dialect.welcome)
    yield from ("--prefix", dialect.chat_before, "--suffix", dialect.chat_after)
    yield from ("--ping", dialect.ping, "--pong", dialect.pong)


def _amounts(load: Load) -> Iterator[str]:
    yield from ("--message-bytes", str(load.message_bytes), "--in-flight", str(load.in_flight))
    yield from ("--rate", str(load.rate or 0), "--connect-only", str(int(load.connect_only)))
    yield from ("--noise", str(load.noise or ""), "--noise-in-flight", str(load.noise_in_flight or 0))
    yield from ("--connecting", str(load.connecting))
    yield from ("--connect-ms", _milliseconds(load.connect_seconds))
    yield from ("--warm-up-ms", _milliseconds(load.warm_up_seconds))
    yield from ("--duration-ms", _milliseconds(load.duration_seconds))
    yield from ("--drain-ms", _milliseconds(load.drain_seconds))


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _events(process: subprocess.Popen[bytes]) -> Iterator[Event]:
    assert process.stdout is not None
    decoder = msgspec.json.Decoder(Event)
    for line in process.stdout:
        event = decoder.decode(line)
        if isinstance(event, Failed):
            raise BenchError(f"the load generator gave up: {event.message}")
        yield event
        if isinstance(event, Result):
            return
    raise BenchError(f"the load generator ended with status {process.wait()} and no result")
