"""`fanout`: how many deliveries a second a server makes when rooms are spoken in without pause."""

import os
import tempfile
from pathlib import Path

import attrs
import click

from bench import machine, process, runner
from bench.errors import BenchError
from bench.load.generator import Load, Measured, Measuring, Result, compile_generator, generating
from bench.load.plan import Crowd, write_plan
from bench.report import Metric, Run, quantile
from bench.servers import Credentials, ServerSpec
from bench.usage import CpuTimes

_SERVER_SHARE, _GENERATOR_SHARE = "server_cpu_share", "generator_cpu_share"
_OTHERS_SHARE = "others_cpu_share"

METRICS = (
    Metric("deliveries_per_second", "deliveries/s", better=1),
    Metric("deliveries_per_cpu_second", "per server CPU-s", better=1),
    Metric("latency_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("latency_p90_ms", "p90 ms", better=-1, decimals=2),
    Metric("latency_p99_ms", "p99 ms", better=-1, decimals=2),
    Metric("latency_max_ms", "max ms", better=-1, decimals=2),
    Metric(_SERVER_SHARE, "server CPU", decimals=2),
    Metric(_GENERATOR_SHARE, "generator CPU", decimals=2),
    Metric(_OTHERS_SHARE, "others CPU", decimals=2),
    Metric("peak_memory_mib", "memory MiB", better=-1, decimals=1),
)


@attrs.frozen
class Fanout:
    """Everything that one run of the scenario needs but the server."""

    load: Load
    program: Path
    plan: Path
    pins: machine.Pins

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load it, and return what was counted.

        :raises BenchError: if the server does not start or the load does not come to a measurement.
        """
        load_average = os.getloadavg()[0]
        with process.running(spec, core=self.pins.server) as server:
            result, used = self._load(server)
            peak_bytes = server.peak_bytes()
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures=_figures(result, used, peak_bytes),
            faults=_faults(result),
            latency_ns=result.latency_ns,
        )

    def _load(self, server: process.RunningServer) -> tuple[Result, CpuTimes]:
        """Return what was counted, and the CPU time that went into the measured window."""
        before = after = CpuTimes.now(server)
        with generating(
            self.program,
            self.load,
            host=process.HOST,
            port=server.port,
            plan=self.plan,
            core=self.pins.generator,
        ) as events:
            for event in events:
                match event:
                    case Measuring():
                        before = CpuTimes.now(server)
                    case Measured():
                        after = CpuTimes.now(server)
                    case Result():
                        return event, after.since(before)
                    case _:
                        pass
        raise BenchError("the load generator said nothing")


def _figures(result: Result, used: CpuTimes, peak_bytes: int) -> dict[str, float]:
    def latency_ms(share: float) -> float:
        return min(quantile(result.latency_ns, share), result.latency_max_ns) / 1e6

    return {
        "deliveries_per_second": result.delivered / result.seconds,
        "deliveries_per_cpu_second": result.delivered / used.server,
        "latency_p50_ms": latency_ms(0.50),
        "latency_p90_ms": latency_ms(0.90),
        "latency_p99_ms": latency_ms(0.99),
        "latency_max_ms": result.latency_max_ns / 1e6,
        _SERVER_SHARE: used.server / result.seconds,
        _GENERATOR_SHARE: result.cpu_seconds / result.seconds,
        _OTHERS_SHARE: used.others_share(generator_seconds=result.cpu_seconds, seconds=result.seconds),
        "peak_memory_mib": peak_bytes / 2**20,
    }


def _faults(result: Result) -> dict[str, int]:
    return {
        "lost": result.lost,
        "duplicated": result.duplicated,
        "out of order": result.out_of_order,
        "malformed": result.malformed,
        "strayed": result.strayed,
        "disconnected": result.disconnected,
    }


def _title(crowd: Crowd, load: Load) -> str:
    fewest, most = crowd.members
    members = f"{most}" if fewest == most else f"{fewest} to {most}"
    return (
        f"fanout: {crowd.connections} connections, rooms: {crowd.rooms} of {members} members, in each "
        f"{crowd.publishers} publishing; {load.in_flight} messages of {load.message_bytes} bytes in flight; "
        f"{load.warm_up_seconds:g} s warm-up, {load.duration_seconds:g} s measured"
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--rooms", type=click.IntRange(1, 100_000), default=1, show_default=True)
@click.option(
    "--publishers", type=click.IntRange(1, 1000), default=1, show_default=True, help="In each room."
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Messages that each publisher sends before one of its own must have come back.",
)
@click.option(
    "--message-bytes",
    # Longer chats are cut by the servers (PROTOCOL: 500 characters); shorter ones do not hold their number.
    type=click.IntRange(43, 500),
    default=64,
    show_default=True,
    help="Of the text alone.",
)
@click.option("--duration", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="Seconds.")
@click.option("--warm-up", type=click.FloatRange(0, 600), default=1.0, show_default=True, help="Seconds.")
@runner.series_options()
def fanout(
    *,
    series: runner.Series,
    connections: int,
    rooms: int,
    publishers: int,
    in_flight: int,
    message_bytes: int,
    duration: float,
    warm_up: float,
) -> None:
    """Count deliveries to rooms whose publishers never pause.

    The loop is closed: a publisher's own message coming back lets it send the next one, so latency grows
    with what is in flight. Figures per CPU-second suffer least from programs that run beside the benchmark.
    """
    if rooms > connections:
        raise click.BadParameter("there are more rooms than connections", param_hint="--rooms")
    machine.check_connections(connections)
    crowd = Crowd(connections, rooms, publishers)
    load = Load(
        message_bytes=message_bytes,
        in_flight=in_flight,
        warm_up_seconds=warm_up,
        duration_seconds=duration,
    )
    scenario = runner.Scenario(
        name="fanout",
        title=_title(crowd, load),
        parameters={"crowd": crowd, "load": load},
        metrics=METRICS,
        generator_share=_GENERATOR_SHARE,
        others_share=_OTHERS_SHARE,
    )
    credentials = Credentials.make()
    with tempfile.TemporaryDirectory() as directory:
        plan = Path(directory) / "plan"
        write_plan(plan, crowd, secret=credentials.secret)
        run = Fanout(load, compile_generator(Path(directory)), plan, series.pins)
        runner.run_series(series, scenario, credentials, run.measure)
