"""`python -m bench SCENARIO`."""

import click

from bench.autobahn.command import autobahn
from bench.errors import BenchError
from bench.instructions.command import instructions
from bench.plots.command import plot
from bench.scenarios.cluster import cluster
from bench.scenarios.connect import connect
from bench.scenarios.deflate import deflate
from bench.scenarios.durable import durable
from bench.scenarios.echo import echo
from bench.scenarios.everything import everything
from bench.scenarios.fairness import fairness
from bench.scenarios.fanout import fanout
from bench.scenarios.large import large
from bench.scenarios.latency import latency
from bench.scenarios.notify import notify
from bench.scenarios.recovery import recovery
from bench.scenarios.scaling import scaling
from bench.scenarios.size import size
from bench.scenarios.stalled import stalled
from bench.scenarios.start import start
from bench.scenarios.tls import tls
from bench.scenarios.turns import turns
from bench.soak.command import soak


class _Bench(click.Group):
    """Tells what keeps a benchmark from running as click tells its own errors: one message, status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BenchError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Bench)
def main() -> None:
    """Measure room servers on this machine.

    Each server is a process of its own on one core; a load generator on another core drives it and counts
    every frame. Most loads are C and are compiled on the spot, so a C compiler must be installed (cc, or what
    CC names). `all` runs everything and draws plots. Linux only.
    """


for command in (
    autobahn, cluster, connect, deflate, durable, echo, everything, fairness, fanout, instructions, large, latency,
    notify, plot, recovery, scaling, size, soak, stalled, start, tls, turns,
):  # fmt: skip
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m bench")
