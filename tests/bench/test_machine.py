"""What the machine can hold, and who gets which core."""

import os

import pytest

from bench import machine
from bench.errors import BenchError
from bench.machine import Pins


def test_server_and_generator_get_different_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3, 9})
    assert machine.choose_pins(pin=True) == Pins(server=3, generator=5)
    assert machine.choose_pins(pin=False) == Pins(server=None, generator=None)


def test_one_core_is_too_few_unless_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with pytest.raises(BenchError, match="--no-pin"):
        machine.choose_pins(pin=True)
    assert machine.choose_pins(pin=False) == Pins(server=None, generator=None)


def test_connections_that_no_machine_holds_are_refused() -> None:
    machine.check_connections(10)
    with pytest.raises(BenchError, match="do not fit"):
        machine.check_connections(10_000_000)
