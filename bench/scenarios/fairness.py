"""`fairness`: how much later a room hears its messages when others ask for all that the server has."""

from pathlib import Path

import attrs
import click

from bench import machine, process, runner
from bench.load.api import Api
from bench.load.frames import client_frames
from bench.load.generator import Load
from bench.load.plan import Role, Seat, room_name
from bench.process import RunningServer
from bench.report import Metric, Run
from bench.rig import Outcome, Rig
from bench.servers import GREENROOMS
from bench.spec import ServerSpec
from bench.usage import worst_shares

_OBSERVED_MEMBERS = 10
_MESSAGES_PER_SECOND = 200
_FLOOD_MESSAGES = 100
_HISTORY_MESSAGES, _HISTORY_TEXT_BYTES = 1000, 900
_MASK = bytes.fromhex("37fa213d")
_FLOOD = client_frames(b'{"type":"chat","text":"' + b"x" * 64 + b'"}', _MASK) * _FLOOD_MESSAGES
_HISTORY = client_frames(b'{"type":"history","limit":1000}', _MASK)
_DISTURBED = ("flood", "huge", "history")

METRICS = (
    Metric("alone_p99_ms", "alone: p99 ms", decimals=2),
    *(Metric(f"{name}_p99_ms", f"{name}: p99 ms", better=-1, decimals=2) for name in _DISTURBED),
    *(Metric(f"{name}_added_ms", f"{name}: added", decimals=2) for name in _DISTURBED),
    # Without these nothing was disturbed.
    Metric("huge_per_second", "huge: deliveries/s"),
    Metric("flood_per_second", "flood: answers/s"),
    Metric("history_per_second", "history: answers/s"),
)


@attrs.frozen
class Fairness:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    huge_members: int
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load a room alone and beside each disturbance, and return what it felt.

        :raises BenchError: if the server does not start or a load does not come to a measurement.
        """
        flood, history = self.rig.directory / "flood", self.rig.directory / "history"
        flood.write_bytes(_FLOOD)
        history.write_bytes(_HISTORY)
        with self.rig.serving(spec) as server:
            if spec.name in GREENROOMS:
                self._fill_history(server)
            outcomes = {
                "alone": self._outcome(server, []),
                "flood": self._outcome(server, [Seat(1, Role.NOISE)], noise=flood, noise_in_flight=None),
                "huge": self._outcome(
                    server, [Seat(1, Role.CROWD), *[Seat(1, Role.LISTEN)] * (self.huge_members - 1)]
                ),
                "history": self._outcome(server, [Seat(2, Role.NOISE)], noise=history),
            }
        return self._run(spec, repeat, outcomes)

    def _fill_history(self, server: RunningServer) -> None:
        message = {"type": "note", "text": "x" * _HISTORY_TEXT_BYTES}
        api = Api(process.HOST, server.port, self.rig.credentials.api_key)
        api.publish((room_name(2), message) for _ in range(_HISTORY_MESSAGES))

    def _outcome(
        self,
        server: RunningServer,
        others: list[Seat],
        *,
        noise: Path | None = None,
        noise_in_flight: int | None = 1,
    ) -> Outcome:
        observed = [Seat(0, Role.PUBLISH), *[Seat(0, Role.LISTEN)] * (_OBSERVED_MEMBERS - 1)]
        load = attrs.evolve(self.load, noise=noise, noise_in_flight=noise_in_flight)
        return self.rig.load(server, [*observed, *others], load)

    def _run(self, spec: ServerSpec, repeat: int, outcomes: dict[str, Outcome]) -> Run:
        p99_ms = {name: outcome.latency_ms(0.99) for name, outcome in outcomes.items()}
        figures = {f"{name}_p99_ms": value for name, value in p99_ms.items()}
        figures |= {f"{name}_added_ms": p99_ms[name] - p99_ms["alone"] for name in _DISTURBED}
        results = {name: outcome.result for name, outcome in outcomes.items()}
        figures |= {
            "huge_per_second": results["huge"].crowd_delivered / results["huge"].seconds,
            "flood_per_second": results["flood"].noise_answered / results["flood"].seconds,
            "history_per_second": results["history"].noise_answered / results["history"].seconds,
        }
        run = outcomes["alone"].run(spec, repeat, {})
        faults = {name: sum(known.faults()[name] for known in outcomes.values()) for name in run.faults}
        shares = worst_shares(outcome.shares() for outcome in outcomes.values())
        return attrs.evolve(run, figures=figures | shares, faults=faults)


def scenario_of(huge_members: int, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="fairness",
        title=(
            f"fairness: a room of {_OBSERVED_MEMBERS} with {_MESSAGES_PER_SECOND} messages a second, alone, then "
            f"beside one connection that floods its room, a room of {huge_members} spoken in without pause, and "
            f"one who reads a whole history again and again; {load.duration_seconds:g} s measured of each"
        ),
        parameters={"huge_members": huge_members, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Fairness(rig, huge_members, load).measure,
    )


def load_of(*, warm_up_seconds: float, duration_seconds: float) -> Load:
    """Return the load of each part."""
    return Load(
        # The crowd's; the observed room is spoken in at a rate.
        in_flight=8,
        rate=_MESSAGES_PER_SECOND,
        warm_up_seconds=warm_up_seconds,
        duration_seconds=duration_seconds,
    )


@click.command()
@click.option("--huge-members", type=click.IntRange(2, 50_000), default=2000, show_default=True)
@runner.time_options(duration=4.0, warm_up=0.5)
@runner.series_options()
def fairness(*, series: runner.Series, huge_members: int, duration: float, warm_up: float) -> None:
    """Measure what one room feels of a flood, of a huge room, and of a history that is read without pause.

    The server's limit of messages a second is out of the way: the flood is all worked off. Servers that keep
    no history ignore who asks for it, so what they show there is the room alone.
    """
    machine.check_connections(huge_members + _OBSERVED_MEMBERS)
    load = load_of(warm_up_seconds=warm_up, duration_seconds=duration)
    runner.run_alone(series, scenario_of(huge_members, load))
