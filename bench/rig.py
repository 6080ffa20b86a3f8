"""The surroundings of a benchmark: cores, secrets, files, and a load driven against one server."""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import process
from bench.errors import BenchError
from bench.load.generator import Load, Measured, Measuring, Result, compile_generator, generating
from bench.load.plan import Seat, write_plan
from bench.machine import Pins
from bench.process import RunningServer
from bench.redis import NOTHING, RedisUse
from bench.report import Run, quantile
from bench.spec import Credentials, ServerSpec
from bench.usage import CpuTimes

_REST_SHARE = 0.8
"""How far into a rest the memory is read: what joining needed has been let go of by then."""


@attrs.frozen
class Outcome:
    """The counts of one load, and its cost for the server.

    `used` is of the measured window, and so is `redis`, which is nothing for a server without one. `before_bytes` is the server's memory when that began, `after_bytes` when
    it had ended; where joining is measured, near the end of the rest.
    """

    result: Result
    used: CpuTimes
    redis: RedisUse
    before_bytes: int
    after_bytes: int
    peak_bytes: int

    @property
    def delivered_per_second(self) -> float:
        """Return how many deliveries a second were counted."""
        return self.result.delivered / self.result.seconds

    @property
    def delivered_per_cpu_second(self) -> float:
        """Return how many deliveries each second of the server's CPU has made."""
        return self.result.delivered / self.used.server

    @property
    def redis_us_per_message(self) -> float:
        """Return the CPU time of the server's Redis for each message that was published; 0 if it has none."""
        return self.redis.cpu_seconds * 1e6 / max(1, self.result.published)

    def latency_ms(self, share: float) -> float:
        """Return the milliseconds that `share` of the deliveries did not exceed; the whole window if none came."""
        if not self.result.delivered:
            return self.result.seconds * 1e3
        return min(quantile(self.result.latency_ns, share), self.result.latency_max_ns) / 1e6

    def shares(self) -> dict[str, float]:
        """Return the figures of `usage.SHARES`."""
        return self.used.shares(generator_seconds=self.result.cpu_seconds, seconds=self.result.seconds)

    def faults(self) -> dict[str, int]:
        """Return what went wrong, by name."""
        return {
            "lost": self.result.lost,
            "duplicated": self.result.duplicated,
            "out of order": self.result.out_of_order,
            "malformed": self.result.malformed,
            "strayed": self.result.strayed,
            "disconnected": self.result.disconnected,
        }

    def run(self, spec: ServerSpec, repeat: int, figures: dict[str, float]) -> Run:
        """Return these figures, with the shares, as a run of which this was the only load."""
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=os.getloadavg()[0],
            figures=figures | self.shares(),
            faults=self.faults(),
            latency_ns=self.result.latency_ns,
        )


@attrs.frozen
class Rig:
    """Where servers and load run; `directory` goes with it."""

    credentials: Credentials
    pins: Pins
    directory: Path

    def measure(self, spec: ServerSpec, seats: Iterable[Seat], load: Load) -> Outcome:
        """Start a server, load it, and return what came of it.

        :raises BenchError: if the load generator does not compile, the server does not start or the load does not come to a
            measurement.
        """
        with self.serving(spec) as server:
            return self.load(server, seats, load)

    @contextmanager
    def serving(self, spec: ServerSpec) -> Iterator[RunningServer]:
        """Run a server that is to be loaded until the block ends; the load generator is compiled first.

        :raises BenchError: if that does not compile, before anything is started, or if the server does not start.
        """
        compile_generator(self.directory, tls=spec.speaks_tls)
        with process.running(spec, core=self.pins.server, redis_core=self.pins.generator) as server:
            yield server

    def load(self, server: RunningServer, seats: Iterable[Seat], load: Load) -> Outcome:
        """Load a server that runs.

        :raises BenchError: if the load does not come to a measurement, or its generator does not compile.
        """
        tls = server.spec.speaks_tls
        program, plan = compile_generator(self.directory, tls=tls), self.directory / "plan"
        write_plan(plan, seats, secret=self.credentials.secret, form=server.spec.dialect.target)
        before = after = CpuTimes.now(server)
        redis_before = redis_after = NOTHING
        before_bytes = after_bytes = 0
        with generating(
            program,
            load,
            host=process.HOST,
            port=server.port,
            plan=plan,
            core=self.pins.generator,
            dialect=server.spec.dialect,
            tls=tls,
        ) as events:
            for event in events:
                match event:
                    case Measuring():
                        before, before_bytes = CpuTimes.now(server), server.resident_bytes()
                        redis_before = server.redis.use() if server.redis else NOTHING
                    case Measured():
                        after = CpuTimes.now(server)
                        redis_after = server.redis.use() if server.redis else NOTHING
                        if load.connect_only:
                            time.sleep(load.duration_seconds * _REST_SHARE)
                        after_bytes = server.resident_bytes()
                    case Result():
                        return Outcome(
                            result=event,
                            used=after.since(before),
                            redis=redis_after.since(redis_before),
                            before_bytes=before_bytes,
                            after_bytes=after_bytes,
                            peak_bytes=server.peak_bytes(),
                        )
                    case _:
                        pass
        raise BenchError("the load generator said nothing")


@contextmanager
def rigged(pins: Pins) -> Iterator[Rig]:
    """Yield a rig with new secrets and a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        yield Rig(credentials=Credentials.make(), pins=pins, directory=Path(directory))
