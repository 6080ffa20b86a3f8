"""The entry point of `greenroom` and of `python -m broker`: what must be done before anything else is imported."""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    forget_working_directory()
    if sys.argv[1:2] == ["serve"]:
        obey_signals_early()
    from broker.cli import main as command  # noqa: PLC0415  # not before the two lines above

    command(prog_name="greenroom")


def forget_working_directory() -> None:
    """Import nothing from the working directory, where `python -m` looks first, unless this package lies there.

    A `trio.py` or `actors.py` that happens to lie there is not ours to run.
    """
    if sys.flags.safe_path or not sys.path:
        return
    try:
        # Not Path: importing it is for later.
        here = os.getcwd()  # noqa: PTH109
    except OSError:
        # A folder that was removed holds nothing to import.
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    if sys.path[0] in {"", here} and root != here:
        del sys.path[0]


def obey_signals_early() -> None:
    """Let SIGTERM and SIGINT end a server that has not come so far as to drain, with status 0.

    Importing everything takes the better part of a second. A process that is number 1 of a container would not hear
    a signal without a handler at all. There is nothing to flush yet. SIGHUP does not end a server, so early neither.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    main()
