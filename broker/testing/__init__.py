"""For the tests of applications: publishers that record, and a real broker in the process.

`docs/testing.md` has recipes. The names below are public, and so are the fixtures of `broker.testing.plugin`.
"""

from broker.testing.publishers import (
    FakeAsyncPublisher,
    FakePublisher,
    PublishedMessage,
    Record,
)
from broker.testing.running import RunningBroker, running_broker

__all__ = [
    "FakeAsyncPublisher",
    "FakePublisher",
    "PublishedMessage",
    "Record",
    "RunningBroker",
    "running_broker",
]
