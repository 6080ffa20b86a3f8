"""`instructions`: a guard against slower code that holds on noisy machines."""

from pathlib import Path

import click
import msgspec

from bench.errors import BenchError
from bench.instructions.count import Surroundings, count, missing, surroundings
from bench.instructions.judge import Figures, Verdict, compare, tolerance_of, why_not_comparable

_FIGURES = Path(__file__).parent / "figures.json"


@click.command()
@click.option("--update", is_flag=True, help="Write the figures of this Python down, to be committed.")
@click.option("--tolerance", type=click.FloatRange(0, 1), default=0.03, show_default=True)
def instructions(*, update: bool, tolerance: float) -> None:
    """Count the instructions of a fixed script of joins, publishes, posts and leaves under callgrind.

    A broker in the same process is spoken to through streams in memory, then through pairs of sockets; the
    kernel's part is not counted. Fails where a stage takes more than the committed figure allows. Figures are
    per build of Python; where there are none, or valgrind or a C compiler is missing, it says so and passes.
    """
    if absent := missing():
        click.echo(f"instructions were not counted: there is no {absent}")
        return
    known, here = _read(), surroundings()
    figures = known.get(_minor(here))
    if not update and (reason := why_not_comparable(figures, here)):
        click.echo(f"instructions were not counted: {reason}; --update writes some down")
        return
    now = count()
    if figures is not None:
        _judge(figures, here, now, tolerance, fail=not update)
    if update:
        known[_minor(here)] = Figures(here, dict(now))
        _FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(known, order="sorted")) + b"\n")
        click.echo(f"written to {_FIGURES}: " + ", ".join(f"{name} {value:,}" for name, value in now.items()))


def _judge(
    figures: Figures, here: Surroundings, now: dict[str, int], tolerance: float, *, fail: bool
) -> None:
    forgiven = tolerance_of(figures, here, tolerance)
    if forgiven > tolerance:
        click.echo(f"the packages are not those of the figures: {forgiven:.0%} are forgiven")
    stages = list(compare(figures.stages, now, forgiven))
    for stage in stages:
        click.echo(str(stage))
    verdicts = {stage.verdict for stage in stages}
    if Verdict.FEWER in verdicts and not verdicts & {Verdict.MORE, Verdict.CHANGED}:
        click.echo("fewer than committed: write it down with --update")
    if fail and verdicts & {Verdict.MORE, Verdict.CHANGED}:
        raise BenchError(
            f"instructions are not within {forgiven:.0%} of the committed figures; if that is meant: "
            "python -m bench instructions --update"
        )


def _read() -> dict[str, Figures]:
    if not _FIGURES.exists():
        return {}
    return msgspec.json.decode(_FIGURES.read_bytes(), type=dict[str, Figures])


def _minor(here: Surroundings) -> str:
    return ".".join(here.python.split(".")[:2])
