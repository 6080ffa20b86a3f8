"""`plot`: draws what `all` has measured."""

from collections.abc import Iterable
from pathlib import Path

import click

from bench.plots import charts
from bench.plots.record import Record, read


def draw(results: Iterable[Path], directory: Path) -> list[Path]:
    """Write the plots of files of results into a directory; return those there is something to show in.

    What two files hold is taken from the later one.

    :raises BenchError: if a file holds no results of `bench all`.
    """
    records: dict[str, Record] = {}
    for path in results:
        records |= read(path).scenarios
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
@click.argument(
    "results", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option(
    "--to", "directory", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory."
)
def plot(results: tuple[Path, ...], directory: Path) -> None:
    """Draw the RESULTS of `bench all` as SVG files; of a scenario in several files the last one counts."""
    for path in draw(results, directory):
        click.echo(f"drawn: {path}")
