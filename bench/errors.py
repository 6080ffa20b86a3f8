"""Errors: a benchmark that cannot be run, or whose figures mean nothing."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and, where it can, what would help."""


_LAST_LINES = 15


def last_lines(output: str) -> str:
    """Return the end of the message of an error: the last lines that a program wrote."""
    lines = output.rstrip().splitlines()[-_LAST_LINES:]
    return "\n".join([":", *lines]) if lines else " and wrote nothing"
