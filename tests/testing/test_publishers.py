"""The fake publishers have the methods of the real ones, check arguments as they do, and record."""

import inspect
from inspect import signature

import pytest

from broker.client import AsyncPublisher, NotSentError, Publisher, UnavailableError
from broker.testing import FakeAsyncPublisher, FakePublisher, Record
from broker.testing import publishers as module

PAIRS = [(Publisher, FakePublisher), (AsyncPublisher, FakeAsyncPublisher)]


def methods(kind):
    return {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("real", "fake"), PAIRS)
def test_each_method_of_the_real_one_is_there_with_its_signature(real, fake):
    assert issubclass(fake, real)
    assert methods(fake).keys() == methods(real).keys()
    for name, method in methods(real).items():
        assert signature(methods(fake)[name]) == signature(method), name
        if name not in {"close", "aclose"}:
            assert methods(fake)[name] is not method, f"{name} would open a connection"
            assert inspect.iscoroutinefunction(methods(fake)[name]) is inspect.iscoroutinefunction(method)


def test_messages_are_recorded_as_their_members_would_read_them():
    with FakePublisher() as publisher:
        message = {"type": "order", "lines": (1, 2), "cost": float("nan")}
        first = publisher.publish("a", message)
        message["type"] = "changed later"
        second = publisher.publish("a", {"type": "x"}, ephemeral=True, tags={"k": "v"}, exclude_user="ann")
        third = publisher.publish("a", {"type": "y"}, idempotency_key="k")
        again = publisher.publish("a", {"type": "y"}, idempotency_key="k")
    record = publisher.record
    assert record.messages("a") == [
        {"type": "order", "lines": [1, 2], "cost": None},
        {"type": "x"},
        {"type": "y"},
    ]
    assert [published.offset for published in (first, second, third, again)] == [1, None, 2, 2]
    assert [said.ephemeral for said in record.published] == [False, True, False]
    assert record.published[2].idempotency_key == "k"
    assert [(said.tags, said.exclude_user) for said in record.published[:2]] == [
        ({}, None),
        ({"k": "v"}, "ann"),
    ]


def test_a_broadcast_is_recorded_for_each_room_and_each_fails_alone():
    publisher = FakePublisher()
    good, bad = publisher.broadcast(["a", "b/c"], {"type": "x"})
    assert good.published is not None
    assert bad.error is not None
    assert [said.room for said in publisher.record.published] == ["a"]


@pytest.mark.parametrize(
    ("room", "message"),
    [("a/b", {"type": "x"}), ("", {"type": "x"}), ("a", {"type": b"x"}), (7, {"type": "x"})],
)
def test_what_the_real_one_cannot_send_is_not_recorded(room, message):
    publisher = FakePublisher()
    with pytest.raises(NotSentError):
        publisher.publish(room, message)
    assert publisher.record.published == []


async def test_both_kinds_may_share_a_record_and_fail():
    record = Record()
    FakePublisher(record).publish("a", {"type": "x"})
    async with FakeAsyncPublisher(record) as publisher:
        assert (await publisher.publish("a", {"type": "y"})).offset == 2
        [outcome] = await publisher.broadcast(["a"], {"type": "z"})
        assert outcome.published.offset == 3
        record.failure = UnavailableError("no answer", idempotency_key="k")
        with pytest.raises(UnavailableError):
            await publisher.publish("a", {"type": "x"})
        with pytest.raises(UnavailableError):
            await publisher.broadcast(["a"], {"type": "x"})
    assert len(record.messages("a")) == 3


async def test_other_methods_answer_what_the_test_says():
    """As those that the publishers get later."""

    def members(self, room, *, limit=10):
        """Never called."""

    class Fake:
        def __init__(self):
            self.record = Record()

    for is_async in (False, True):
        Fake.members = module._answering("members", members, is_async=is_async)
        fake = Fake()

        async def call(*arguments, fake=fake, is_async=is_async, **named):
            result = fake.members(*arguments, **named)
            return await result if is_async else result

        with pytest.raises(LookupError, match=r"record.answers\['members'\]"):
            await call("a")
        fake.record.answers["members"] = ["ann"]
        assert await call("a", limit=5) == ["ann"]
        assert fake.record.calls == [("members", {"room": "a"}), ("members", {"room": "a", "limit": 5})]
        with pytest.raises(TypeError):
            await call("a", size=5)
