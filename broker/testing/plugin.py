"""Fixtures of pytest: put `pytest_plugins = ["broker.testing.plugin"]` into the `conftest.py` at the root of the tests."""

from collections.abc import Iterator

import pytest

from broker.testing.publishers import FakeAsyncPublisher, FakePublisher
from broker.testing.running import RunningBroker, running_broker


@pytest.fixture
def greenroom() -> Iterator[RunningBroker]:
    """Serve a broker with rooms in memory, on a free port, for one test."""
    with running_broker() as broker:
        yield broker


@pytest.fixture
def fake_publisher() -> FakePublisher:
    """Record what is published, in its `record`."""
    return FakePublisher()


@pytest.fixture
def fake_async_publisher(fake_publisher: FakePublisher) -> FakeAsyncPublisher:
    """Record what is published, in the `record` that it shares with `fake_publisher`."""
    return FakeAsyncPublisher(fake_publisher.record)
