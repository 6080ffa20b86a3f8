"""For all tests."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A test is not wrong because the machine has other things to do.
settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `--hypothesis-profile=same`: the same examples in every run, for the check of a change, which is to say the same of the
# same code. Each other run looks for new ones.
settings.register_profile("same", settings.get_profile("greenroom"), derandomize=True)
# `--hypothesis-profile=few`: for runs whose point is other versions, and not other examples.
settings.register_profile("few", settings.get_profile("same"), max_examples=10)
settings.load_profile("greenroom")

# A shell without job control starts what is behind it with SIGINT ignored (POSIX.1, Shell Command Language, 2.11), and
# each process hands that on: tests that interrupt one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
SLOW = (
    "bench",
    "cli/test_odd_places.py",
    "client/test_core_machine.py",
    "client/test_real_servers.py",
    "cluster",
    "conformance/test_own_clients.py",
    "durability",
    "embedded",
    "engine/contract/test_contract_machine.py",
    "fuzz/test_coverage_guided.py",
    "isolation/test_every_step.py",
    "openapi",
    "rooms/machine",
    "server/test_parser_costs.py",
    "web",
    "web_console",
    "workers",
)
"""Tests that take seconds each: processes, browsers, long state machines, counted instructions."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, by its place, so that a new file there is marked as well."""
    slow = [TESTS / place for place in SLOW]
    missing = [str(place) for place in slow if not place.exists()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py: SLOW names what is not there: {missing}")
    is_slow = {
        path: any(path.is_relative_to(place) for place in slow) for path in {item.path for item in items}
    }
    for item in items:
        if is_slow[item.path]:
            item.add_marker(pytest.mark.slow)
