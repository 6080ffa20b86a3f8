"""The death of a server that has a room with code: how long its counter cannot be called."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs

from bench import machine, process
from bench.errors import BenchError
from bench.load.api import Api
from bench.process import RunningServer
from bench.redis import running_redis
from bench.spec import ServerSpec

_ROOM = "turns.dying"
_CALLS_BEFORE = 10
_TOO_LATE_SECONDS = 60.0
_PAUSE_SECONDS = 0.005


@contextmanager
def shared(spec: ServerSpec, pins: machine.Pins) -> Iterator[ServerSpec]:
    """Yield the specification of servers that store in one place, which goes with the block; itself, if they store nothing.

    :raises BenchError: if there is no disk, or no Redis.
    """
    if not spec.needs_disk and not spec.needs_redis:
        yield spec
        return
    with ExitStack() as stack:
        fill = {}
        if spec.needs_disk:
            fill["{directory}"] = stack.enter_context(tempfile.TemporaryDirectory(dir=machine.disk()))
        if spec.needs_redis:
            fill["{redis}"] = stack.enter_context(running_redis(core=pins.generator)).url
        environment = dict(spec.environment)
        for placeholder, value in fill.items():
            environment = {name: text.replace(placeholder, value) for name, text in environment.items()}
        yield attrs.evolve(spec, environment=environment)


def time_until_back(spec: ServerSpec, server: RunningServer, pins: machine.Pins, api_key: str) -> float:
    """Kill a server, and return the seconds until the counter of its room is called again.

    `spec` is that of servers that store in the same place: through Redis another one is there before, else one is
    started then.

    :raises BenchError: if it is not back within a minute, or an answered call was lost or done twice.
    """
    with ExitStack() as nodes:

        def start() -> RunningServer:
            return nodes.enter_context(process.running(spec, core=pins.server))

        api = Api(process.HOST, server.port, api_key)
        for number in range(1, _CALLS_BEFORE + 1):
            _check(api.call(_ROOM, "add", key=f"before {number}"), number)
        other = start() if "redis://" in spec.environment.get("GREENROOM_SERVER__ENGINE", "") else None
        os.kill(server.pid, signal.SIGKILL)
        began = time.monotonic()
        other = other or start()
        total = _call_until_answered(Api(process.HOST, other.port, api_key), began)
        seconds = time.monotonic() - began
    _check(total, _CALLS_BEFORE + 1)
    return seconds


def _call_until_answered(api: Api, began: float) -> int:
    while True:
        try:
            return api.call(_ROOM, "add", key="after")
        except BenchError as error:
            if time.monotonic() - began > _TOO_LATE_SECONDS:
                raise BenchError(f"the room is not back: {error}") from error
        time.sleep(_PAUSE_SECONDS)


def _check(total: int, expected: int) -> None:
    if total != expected:
        raise BenchError(f"the counter stands at {total}, not at {expected}")
