"""The environment of a process that coverage does not follow."""

from collections.abc import Mapping


def untraced(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without what makes coverage trace another process.

    Tracing doubles what a start costs, and slows a server down. It is wasted where many processes run the same lines,
    where one is killed before it writes down what it has run, and where speed or instructions are measured.
    """
    return {name: value for name, value in environ.items() if not name.startswith("COVERAGE_")}
