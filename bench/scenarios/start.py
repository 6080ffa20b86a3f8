"""`start`: what a server costs until it answers, beside the import of trio alone."""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

import attrs
import click

from bench.process import running
from bench.servers import SERVERS
from bench.spec import Credentials

_TRIO = (sys.executable, "-c", "import trio")


def _cpu_seconds_of_import() -> float:
    before = _cpu_seconds_of_children()
    subprocess.run(_TRIO, check=True)
    return _cpu_seconds_of_children() - before


def _cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _row(name: str, values: Sequence[float], unit: str) -> str:
    middle = statistics.median(values)
    return f"{name:<28} {middle:8.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


@click.command()
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="Of each.")
def start(repeats: int) -> None:
    """Measure the CPU time of a server until it answers, and its memory and CPU time once all is imported."""
    spec = SERVERS["greenroom"](Credentials.make())
    # The first start writes the bytecode, also where the environment says that nothing is to write any.
    spec = attrs.evolve(spec, environment={**spec.environment, "PYTHONDONTWRITEBYTECODE": ""})
    early = attrs.evolve(spec, whole_path=None)
    servers, wholes, imports, mebibytes = [], [], [], []
    for _ in range(repeats + 1):
        imports.append(_cpu_seconds_of_import())
        with running(early, core=None) as server:
            servers.append(server.cpu_seconds())
        with running(spec, core=None) as server:
            wholes.append(server.cpu_seconds())
            mebibytes.append(server.resident_bytes() / 2**20)
    ratios = [server / one for server, one in zip(servers[1:], imports[1:], strict=True)]
    click.echo(_row("until it answers", servers[1:], "CPU-seconds"))
    click.echo(_row("until all is imported", wholes[1:], "CPU-seconds"))
    click.echo(_row("import trio", imports[1:], "CPU-seconds"))
    click.echo(_row("ratio", ratios, "times"))
    click.echo(_row("memory then", mebibytes[1:], "MiB"))
