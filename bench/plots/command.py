"""`plot`: draws what `all` has measured."""

from pathlib import Path

import click

from bench.plots import charts
from bench.plots.record import read


def draw(results: Path, directory: Path) -> list[Path]:
    """Write the plots of a file of results into a directory; return those there is something to show in.

    :raises BenchError: if the file holds no results of `bench all`.
    """
    records = read(results).scenarios
    made = {
        "throughput": charts.throughput(records),
        "latency": charts.latency(records),
        "scaling": charts.scaling(records),
        "memory": charts.memory(records),
        "idle-memory": charts.idle_memory(records),
    }
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in made.items():
        if text is not None:
            paths.append(directory / f"{name}.svg")
            paths[-1].write_text(text)
    return paths


@click.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--to", "directory", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory."
)
def plot(results: Path, directory: Path) -> None:
    """Draw the RESULTS of `bench all` as SVG files."""
    for path in draw(results, directory):
        click.echo(f"drawn: {path}")
