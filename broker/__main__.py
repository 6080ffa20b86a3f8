"""The entry point of `greenroom` and of `python -m broker`: the steps before anything else is imported."""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    forget_working_directory()
    if sys.argv[1:2] == ["serve"]:
        obey_signals_early()
    from broker.lazy_names import find_hidden_actors  # noqa: PLC0415

    hidden = find_hidden_actors()
    if hidden is not None:
        sys.exit(f"greenroom: {hidden}")
    from broker.cli import main as command  # noqa: PLC0415  # not before the two lines above

    command(prog_name="greenroom")


def forget_working_directory() -> None:
    """Remove the working directory from the import path, where `python -m` puts it, unless this package is in it.

    A `trio.py` or `actors.py` of somebody else in it must not be imported.
    """
    if sys.flags.safe_path or not sys.path:
        return
    try:
        # Not Path, which would have to be imported.
        here = os.getcwd()  # noqa: PTH109
    except OSError:
        # A removed directory holds nothing to import.
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    if sys.path[0] in {"", here} and root != here:
        del sys.path[0]


def obey_signals_early() -> None:
    """Let SIGTERM and SIGINT end a server that cannot drain yet, with status 0; SIGHUP is ignored, as it is later.

    Importing everything takes most of a second, and process 1 of a container ignores signals that have no handler.
    There is nothing to flush yet. SIGTERM comes last: who sees its handler knows that all are there.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: os._exit(0))


if __name__ == "__main__":
    main()
