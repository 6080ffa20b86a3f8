"""For the tests of the benchmarks, which start many processes to measure them."""

import os

import pytest


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of the servers and loads that are started: it is no part of what is measured."""
    for name in os.environ:
        if name.startswith("COVERAGE_"):
            monkeypatch.delenv(name)
