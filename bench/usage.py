"""CPU time and memory used in a measured period."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import attrs

from bench import procfs
from bench.process import RunningServer
from bench.report import Metric

_TICK_SECONDS = 0.01
"""The kernel's unit of CPU time."""

SERVER_SHARE, GENERATOR_SHARE, OTHERS_SHARE = "server_cpu_share", "generator_cpu_share", "others_cpu_share"

SHARES = (
    Metric(SERVER_SHARE, "server CPU", decimals=2),
    Metric(GENERATOR_SHARE, "generator CPU", decimals=2),
    Metric(OTHERS_SHARE, "others CPU", decimals=2),
)
"""Figures that show whether the others are credible; every scenario has them."""


@attrs.frozen
class CpuTimes:
    """CPU seconds of the server, of this process, and of everything on the machine."""

    server: float
    own: float
    machine: float

    @classmethod
    def now(cls, server: RunningServer) -> "CpuTimes":
        """Return what has been used up to now."""
        return cls(server=server.cpu_seconds(), own=time.process_time(), machine=procfs.busy_seconds())

    def since(self, before: "CpuTimes") -> "CpuTimes":
        """Return what was used since `before`, of the server no less than can be counted."""
        return CpuTimes(
            # A short run may end before the kernel has counted anything.
            server=max(self.server - before.server, _TICK_SECONDS),
            own=self.own - before.own,
            machine=self.machine - before.machine,
        )

    def shares(self, *, generator_seconds: float, seconds: float) -> dict[str, float]:
        """Return the figures of `SHARES`, if `seconds` have passed.

        Those of server and generator are of one core, that of others is what neither of them used of all cores.
        """
        others_seconds = self.machine - self.server - generator_seconds
        return {
            SERVER_SHARE: self.server / seconds,
            GENERATOR_SHARE: generator_seconds / seconds,
            OTHERS_SHARE: max(0.0, others_seconds) / (seconds * (os.cpu_count() or 1)),
        }


def worst_shares(of: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the highest of each share, of a run that was several loads."""
    known = list(of)
    return {metric.name: max(shares[metric.name] for shares in known) for metric in SHARES}


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Keep the calling thread on a core, as the load generator; None leaves it to the scheduler."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        yield
    finally:
        os.sched_setaffinity(0, before)


def latency_buckets(latencies_ns: Iterable[int]) -> list[tuple[int, int]]:
    """Gather latencies into pairs of the highest value in a bucket and its count, rising; exact to 1.6 %."""
    counts: Counter[int] = Counter()
    for latency_ns in latencies_ns:
        shift = max(0, latency_ns.bit_length() - 7)
        counts[((latency_ns >> shift) + 1 << shift) - 1] += 1
    return sorted(counts.items())
