"""For the tests of applications: publishers that record, a real broker in the process, and one on virtual time.

`docs/testing.md` has recipes. The names below are public, and so are the fixtures of `broker.testing.plugin`.
"""

from broker.testing.publishers import (
    FakeAsyncPublisher,
    FakePublisher,
    PublishedMessage,
    Record,
)
from broker.testing.running import RunningBroker, running_broker
from broker.testing.visitor import RefusedError, Visitor
from broker.testing.world import World, open_test_broker, open_test_broker_in_thread

__all__ = [
    "FakeAsyncPublisher",
    "FakePublisher",
    "PublishedMessage",
    "Record",
    "RefusedError",
    "RunningBroker",
    "Visitor",
    "World",
    "open_test_broker",
    "open_test_broker_in_thread",
    "running_broker",
]
