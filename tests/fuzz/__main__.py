"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz [TARGET...]`; see CONTRIBUTING.md, "Fuzzing"."""

import argparse
import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from hashlib import sha256
from pathlib import Path

import trio

from tests.fuzz.table import NAMES, PACKAGES, load

MOST_BYTES = 1500
"""Longest input, unless a seed is longer: all limits of the targets are lower."""

SECONDS_PER_INPUT = 60
"""Most take less than a millisecond."""


def main() -> None:
    """Fuzz each target in a process of its own, as the fuzzer ends its process; exits with 1 if one fails."""
    options = _parse()
    try:
        import atheris  # noqa: PLC0415  # not installed everywhere
    except ImportError:
        sys.exit(
            "atheris is not installed here (the extra `fuzz`; it has wheels for CPython 3.11 to 3.13 on Linux)"
        )
    # Each module that is instrumented is named there.
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=list(PACKAGES)):
        for name in options.targets:
            load(name)
    failed = [name for name in options.targets if not _run(name, options)]
    sys.exit(f"failed: {', '.join(failed)}; the inputs are in {options.failures}" if failed else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or of these: {', '.join(NAMES)}")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument(
        "--minutes", type=float, default=10, help="time in all, in equal parts for the targets (10)"
    )
    bound.add_argument("--runs", type=int, help="inputs for each target instead, the same in every run")
    parser.add_argument(
        "--corpus", type=Path, help="folder that keeps the inputs which reached something new"
    )
    parser.add_argument("--failures", type=Path, default=Path(), help="folder for inputs that fail (here)")
    options = parser.parse_args()
    options.targets = options.targets or list(NAMES)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return options


def _run(name: str, options: argparse.Namespace) -> bool:
    """Fuzz one target, and print a line; returns whether it holds."""
    seeds = load(name).SEEDS
    with tempfile.TemporaryDirectory() as made:
        corpus = Path(made, "corpus") if options.corpus is None else options.corpus / name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        seconds = max(1, round(options.minutes * 60 / len(options.targets)))
        arguments = [
            "fuzz",
            *(
                [f"-max_total_time={seconds}"]
                if options.runs is None
                else [f"-runs={options.runs}", "-seed=1"]
            ),
            f"-max_len={max(MOST_BYTES, *map(len, seeds))}",
            f"-timeout={SECONDS_PER_INPUT}",
            f"-artifact_prefix={options.failures}/{name}-",
            str(corpus),
        ]
        output = Path(made, "output")
        process = multiprocessing.get_context("fork").Process(
            target=_fuzz, args=(name, arguments, output, options.failures)
        )
        process.start()
        process.join()
        lines = output.read_text(errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.startswith("Done ")), "failed")
    print(f"{name}: {last}", flush=True)
    if process.exitcode:
        print("\n".join(lines[-40:]), flush=True)
    return not process.exitcode


def _fuzz(name: str, arguments: Sequence[str], output: Path, failures: Path) -> None:
    import atheris  # noqa: PLC0415  # as above

    check = load(name).check
    with output.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)

    def check_or_keep(data: bytes) -> None:
        try:
            check(data)
        except BaseException:
            (failures / f"{name}-{sha256(data).hexdigest()[:12]}").write_bytes(data)
            raise

    async def run() -> None:
        # Within a task: what is tested asks for the time.
        atheris.Setup(list(arguments), check_or_keep)
        atheris.Fuzz()

    trio.run(run)


if __name__ == "__main__":
    main()
