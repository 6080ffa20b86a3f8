"""The fields that plots read of the results of `bench all`."""

from pathlib import Path
from typing import Any

import msgspec

from bench.errors import BenchError


class Spread(msgspec.Struct, frozen=True):
    """The middle, lowest and highest of the runs of one figure."""

    median: float
    low: float
    high: float
    runs: int


class Run(msgspec.Struct, frozen=True):
    """One run of one server."""

    server: str
    figures: dict[str, float]
    latency_ns: list[tuple[int, int]] = []


class Record(msgspec.Struct, frozen=True):
    """One scenario."""

    scenario: str
    title: str
    parameters: dict[str, Any]
    runs: list[Run]
    summary: dict[str, dict[str, Spread]]


class Everything(msgspec.Struct, frozen=True):
    """All that was measured in one go."""

    scenarios: dict[str, Record]
    machine: dict[str, Any]


def read(path: Path) -> Everything:
    """Return the results in a file.

    :raises BenchError: if they are not of `bench all`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Everything)
    except msgspec.DecodeError as error:
        raise BenchError(f"{path} holds no results of `bench all`: {error}") from error
