"""What keeps a benchmark from being run, or its figures from meaning anything."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and, where it can, what would help."""
