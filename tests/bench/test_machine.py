"""The limits of the machine, and the assignment of its cores."""

import os
import tempfile
from pathlib import Path

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


def test_files_go_to_a_disk_and_never_to_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.filesystem(Path("/proc")) == "proc"
    kinds = {Path("/memory"): "tmpfs", Path("/var/tmp"): "ext4", tmp_path: "xfs"}
    monkeypatch.setattr(machine, "filesystem", kinds.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert machine.disk() == tmp_path
    monkeypatch.setattr(tempfile, "tempdir", "/memory")
    assert machine.disk() == Path("/var/tmp")
    kinds[Path("/var/tmp")] = "tmpfs"
    with pytest.raises(BenchError, match="TMPDIR"):
        machine.disk()
