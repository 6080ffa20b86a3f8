"""`large`: how long one message within the limits holds up everybody else."""

import json
from collections.abc import Mapping
from types import MappingProxyType

import attrs
import click

from bench import runner
from bench.load.frames import client_frames
from bench.load.generator import Load
from bench.load.plan import Role, Seat
from bench.report import Metric, Run
from bench.rig import Outcome, Rig
from bench.spec import ServerSpec
from bench.usage import worst_shares

_MESSAGE_BYTES = 65_536
_PINGS_PER_SECOND = 500
_MASK = bytes.fromhex("37fa213d")


def _chat(character: str) -> bytes:
    """Return the largest chat of this character, which may be an escape."""
    before, after = b'{"type":"chat","text":"', b'"}'
    one = character.encode()
    return before + one * ((_MESSAGE_BYTES - len(before) - len(after)) // len(one)) + after


def _publish(item: str) -> bytes:
    before, after = b'{"type":"publish","event":"large","data":[', b"0]}"
    one = item.encode()
    return before + one * ((_MESSAGE_BYTES - len(before) - len(after)) // len(one)) + after


MESSAGES: Mapping[str, bytes] = MappingProxyType(
    {
        "letters": client_frames(_chat("x"), _MASK),
        "umlauts": client_frames(_chat("\u00e4"), _MASK),
        "escapes": client_frames(_chat("\\u00e4"), _MASK),
        "numbers": client_frames(_publish("1,"), _MASK),
        "objects": client_frames(_publish('{"a":1},'), _MASK),
        "rubbish": client_frames(b"x" * _MESSAGE_BYTES, _MASK),
        "unknown": client_frames(json.dumps({"type": "unknown", "x": ["y" * 10] * 4500}).encode(), _MASK),
        "fragments": client_frames(_chat("x"), _MASK, fragment_bytes=512),
        "crumbs": client_frames(_chat("x"), _MASK, fragment_bytes=1),
    }
)
"""Frames of one message each, by what makes it hard."""

METRICS = (
    Metric("alone_p99_ms", "alone: p99", decimals=2),
    Metric("alone_max_ms", "alone: max", decimals=2),
    *(
        Metric(f"{name}_{figure}_ms", f"{name}: {figure}", better=-1, decimals=2)
        for name in MESSAGES
        for figure in ("p99", "max")
    ),
)


@attrs.frozen
class Large:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, ping it alone and beside each message in turn, and return what the pings took.

        :raises BenchError: if the server does not start or a load does not come to a measurement.
        """
        pinger, sender = Seat(0, Role.PING), Seat(1, Role.NOISE)
        noise = self.rig.directory / "noise"
        with self.rig.serving(spec) as server:
            outcomes: dict[str, Outcome] = {"alone": self.rig.load(server, [pinger], self.load)}
            for name, frames in MESSAGES.items():
                noise.write_bytes(frames)
                disturbed = attrs.evolve(self.load, noise=noise)
                outcomes[name] = self.rig.load(server, [pinger, sender], disturbed)
        figures: dict[str, float] = {}
        for name, outcome in outcomes.items():
            figures[f"{name}_p99_ms"] = outcome.latency_ms(0.99)
            figures[f"{name}_max_ms"] = outcome.latency_ms(1.0)
        run = outcomes["letters"].run(spec, repeat, {})
        faults = {name: sum(known.faults()[name] for known in outcomes.values()) for name in run.faults}
        shares = worst_shares(outcome.shares() for outcome in outcomes.values())
        return attrs.evolve(run, figures=figures | shares, faults=faults)


def scenario_of(load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="large",
        title=(
            f"large: {_PINGS_PER_SECOND} pings a second, while another connection sends messages of "
            f"{_MESSAGE_BYTES} bytes, one after the other; {load.duration_seconds:g} s of each kind"
        ),
        parameters={"load": load, "kinds": list(MESSAGES)},
        metrics=METRICS,
        prepare=lambda rig: Large(rig, load).measure,
    )


def load_of(*, warm_up_seconds: float, duration_seconds: float) -> Load:
    """Return the load of each kind of message."""
    return Load(rate=_PINGS_PER_SECOND, warm_up_seconds=warm_up_seconds, duration_seconds=duration_seconds)


@click.command()
@runner.time_options(duration=2.0, warm_up=0.3)
@runner.series_options()
def large(*, series: runner.Series, duration: float, warm_up: float) -> None:
    """Measure pings while another connection sends the largest messages that are allowed.

    What a ping takes at most is how long such a message holds the server up, and what the machine adds.
    """
    load = load_of(warm_up_seconds=warm_up, duration_seconds=duration)
    runner.run_alone(series, scenario_of(load))
