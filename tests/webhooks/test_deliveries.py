"""The deliveries of a node, in virtual time: order, outages, leases, stops and log lines."""

import random

import msgspec
import pytest
import trio
import trio.testing

from broker.engine.memory_outbox import PARTITION
from broker.engine.outbox import write_message_entry
from broker.errors import ConfigurationError
from broker.webhooks.batches import Batch
from broker.webhooks.deliveries import open_deliveries
from broker.webhooks.leader import LEASE_SECONDS
from broker.webhooks.progress import LAST_RETRY_SECONDS, Failure, FailureReason
from tests.support.logs import RecordingLog
from tests.webhooks.entries import webhook
from tests.webhooks.world import Shop, virtual_wall_clock

HOUR = 3600.0
DOWN = Failure(FailureReason.CONNECT, "connection refused")
WRONG = Failure(FailureReason.STATUS, "status 404")


async def test_entries_come_in_order_in_batches_and_leave_the_queue(autojump_clock) -> None:
    shop = Shop.of(webhook(kinds=("message",), batch=10))
    shop.write(25)
    async with shop.deliver() as [tally]:
        await trio.sleep(1)
        shop.write(3)
        await trio.sleep(1)
        assert shop.application.contents == list(range(1, 29))
        assert [len(request) for request in shop.application.requests] == [10, 10, 5, 3]
        assert await shop.waiting() == 0
        assert tally.delivered_count == 28
    first = shop.application.taken[0]
    assert first == {
        "id": "e-1",
        "type": "message",
        "number": 1,
        "time": 0,
        "room": "a",
        "user": None,
        "offset": 1,
        "epoch": "r",
        "content": {"n": 1},
    }


async def test_an_application_that_is_down_for_an_hour_loses_nothing_and_gets_the_same_batch_again(
    autojump_clock,
) -> None:
    shop = Shop.of()
    application, ids = shop.application, []

    async def answer(batch: Batch) -> Failure | None:
        await trio.lowlevel.checkpoint()
        ids.append((trio.current_time(), batch.id))
        return DOWN if trio.current_time() < HOUR else None

    application.answer = answer
    async with shop.deliver():
        for _ in range(12):
            shop.write(2)
            await trio.sleep(HOUR / 12)
        await trio.sleep(LAST_RETRY_SECONDS)
        assert application.contents == list(range(1, 25))
    # The pauses are the longest for most of the outage.
    assert 12 < len(ids) < 60
    assert len({each for at, each in ids if at < HOUR}) == 1


@pytest.mark.parametrize("failure", [DOWN, WRONG])
async def test_entries_that_are_not_taken_in_time_are_put_aside_and_can_be_repeated(
    autojump_clock, failure
) -> None:
    shop = Shop.of(webhook(kinds=("message",), batch=4, give_up_seconds=1200))
    application = shop.application
    is_down = True

    async def answer(batch: Batch) -> Failure | None:
        await trio.lowlevel.checkpoint()
        return failure if is_down else None

    application.answer = answer
    async with shop.deliver() as [tally]:
        shop.write(10)
        await trio.sleep(1100)
        assert await shop.waiting() == 10
        shop.write(1)
        await trio.sleep(100 + 2 * LAST_RETRY_SECONDS)
        aside = await shop.outbox.list_aside(PARTITION, "shop", limit=100)
        assert [each.entry.number for each in aside] == list(range(1, 11))
        assert {each.reason for each in aside} == {failure.detail}
        assert await shop.waiting() == 1
        await trio.sleep(5)
        assert (tally.lengths().waiting, tally.lengths().aside) == (1, 10)
        is_down = False
        await shop.outbox.repeat(PARTITION, "shop", [3, 7])
        await trio.sleep(LAST_RETRY_SECONDS)
        assert sorted(application.contents) == [3, 7, 11]
        assert {entry["id"] for entry in application.taken} == {"e-3", "e-7", "e-11"}
    lines = [line for line in shop.log.lines if line.event == "webhook entries put aside"]
    assert len(lines) == 1
    assert lines[0].fields["webhook"] == "shop"


async def test_a_receiver_that_hangs_holds_up_no_other(autojump_clock) -> None:
    shop = Shop.of(webhook(name="slow", kinds=("message",)), webhook(name="shop", kinds=("message",)))

    async def hang(_batch: Batch) -> Failure | None:
        await trio.sleep_forever()
        raise AssertionError

    shop.applications["slow"].answer = hang
    async with shop.deliver(stop_seconds=1):
        shop.write(3)
        await trio.sleep(1)
        assert shop.applications["shop"].contents == [1, 2, 3]


@pytest.mark.parametrize("drains", [False, True])
async def test_a_stop_lets_the_request_under_way_finish_and_makes_no_other(autojump_clock, drains) -> None:
    shop = Shop.of(webhook(kinds=("message",), batch=2))

    async def answer(_batch: Batch) -> Failure | None:
        await trio.sleep(8)
        return None

    shop.application.answer = answer
    shop.write(6)
    async with shop.deliver(stop_seconds=10):
        await trio.sleep(12)
        if drains:
            shop.draining.set()
            await trio.sleep(HOUR)
    assert shop.application.contents == [1, 2, 3, 4]
    assert len(shop.application.requests) == 2
    assert await shop.waiting() == 2
    # The lease is free for another node.
    assert await shop.outbox.lease(PARTITION, "another", 1.0) is not None


async def test_a_stop_does_not_wait_longer_than_it_may(autojump_clock) -> None:
    shop = Shop.of()

    async def hang(_batch: Batch) -> Failure | None:
        await trio.sleep_forever()
        raise AssertionError

    shop.application.answer = hang
    shop.write(1)
    async with shop.deliver(stop_seconds=3):
        await trio.sleep(1)
        began_at = trio.current_time()
    assert trio.current_time() == began_at + 3
    assert await shop.waiting() == 1


async def test_a_cancelled_broker_ends_at_once(autojump_clock) -> None:
    shop = Shop.of()

    async def hang(_batch: Batch) -> Failure | None:
        await trio.sleep_forever()
        raise AssertionError

    shop.application.answer = hang
    shop.write(1)
    with trio.move_on_after(1):
        async with shop.deliver():
            await trio.sleep_forever()
    assert trio.current_time() < 1.6


@pytest.mark.parametrize("seed", range(3))
async def test_an_engine_that_is_away_for_a_while_loses_and_repeats_nothing(autojump_clock, seed) -> None:
    chance = random.Random(seed)
    shop = Shop.of(webhook(kinds=("message",), batch=3))
    async with shop.deliver():
        shop.outbox.failing = lambda: chance.random() < 0.4
        for _ in range(20):
            shop.write(2)
            await trio.sleep(chance.uniform(0, 10))
        shop.outbox.failing = lambda: False
        await trio.sleep(60)
        ids = [entry["id"] for entry in shop.application.taken]
        assert sorted(set(shop.application.contents)) == list(range(1, 41))
        # Only the loss of a lease makes a repetition.
        assert len(ids) < 60
        assert await shop.waiting() == 0


async def test_one_node_delivers_and_another_takes_over_when_it_dies(autojump_clock) -> None:
    shop = Shop.of()
    at: list[float] = []

    async def answer(batch: Batch) -> Failure | None:
        at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return None

    shop.application.answer = answer
    dead = Shop(shop.webhooks, shop.outbox, {"shop": shop.application})
    async with trio.open_nursery() as nursery:

        async def run(node: Shop, scope: trio.CancelScope) -> None:
            with scope:
                async with node.deliver():
                    await trio.sleep_forever()

        first, second = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(run, dead, first)
        await trio.sleep(0.1)
        nursery.start_soon(run, shop, second)
        for _ in range(60):
            shop.write(1)
            await trio.sleep(0.5)
        assert shop.application.contents == list(range(1, 61))
        assert len(shop.application.requests) == 60
        # A node that is killed releases nothing.
        shop.outbox.failing = lambda: True
        first.cancel()
        await trio.sleep(0.1)
        shop.outbox.failing = lambda: False
        died_at = trio.current_time()
        shop.write(1)
        await trio.sleep(LEASE_SECONDS * 3)
        assert shop.application.contents == list(range(1, 62))
        assert at[-1] - died_at <= LEASE_SECONDS * 2
        second.cancel()


async def test_a_node_that_lost_its_lease_stops_in_the_midst_of_a_request(autojump_clock) -> None:
    shop = Shop.of()
    ended: list[float] = []

    async def hang(_batch: Batch) -> Failure | None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())
        raise AssertionError

    shop.application.answer = hang
    shop.write(1)
    async with shop.deliver(stop_seconds=0):
        await trio.sleep(1)
        shop.outbox.failing = lambda: True
        lost_at = trio.current_time()
        await trio.sleep(LEASE_SECONDS * 3)
        assert len(ended) == 1
        assert ended[0] <= lost_at + LEASE_SECONDS


async def test_a_replaced_node_removes_nothing(autojump_clock) -> None:
    shop = Shop.of()

    async def answer(_batch: Batch) -> Failure | None:
        # Another node got the lease while the request was under way, as after a pause of this machine.
        lease = shop.outbox._lease
        lease.holder, lease.fence, lease.until = "another", lease.fence + 1, trio.current_time() + 100
        await trio.lowlevel.checkpoint()
        return None

    shop.application.answer = answer
    shop.write(1)
    async with shop.deliver():
        await trio.sleep(20)
        assert len(shop.application.requests) == 1
        assert await shop.waiting() == 1


async def test_a_receiver_that_comes_and_goes_fills_no_log(autojump_clock) -> None:
    shop = Shop.of()
    outcomes = iter([DOWN, None] * 1000)

    async def answer(_batch: Batch) -> Failure | None:
        await trio.lowlevel.checkpoint()
        return next(outcomes)

    shop.application.answer = answer
    async with shop.deliver() as [tally]:
        for _ in range(300):
            shop.write(1)
            await trio.sleep(1)
    assert shop.log.events[:2] == ["webhook not delivered, tried again", "webhook delivers again"]
    assert len(shop.log.events) <= 2 * 6
    assert tally.failures[FailureReason.CONNECT] > 100


async def test_webhooks_need_an_outbox() -> None:
    with pytest.raises(ConfigurationError, match="no outbox"):
        async with open_deliveries(
            [webhook()],
            None,
            log=RecordingLog(),
            wall_clock=virtual_wall_clock,
            random=random.Random(1),
            draining=trio.Event(),
            stop_seconds=1,
        ):
            raise AssertionError


async def test_a_large_batch_is_divided_by_its_bytes(autojump_clock) -> None:
    shop = Shop.of()
    assert shop.outbox.message_queues is not None
    from broker.model import Event, Position  # noqa: PLC0415

    for number in range(1, 8):
        content = msgspec.json.encode({"n": number, "text": "x" * 300_000})
        queues = shop.outbox.message_queues("a")
        write_message_entry(shop.outbox, queues, "a", Position("r", number), Event(content, 0, number))
    async with shop.deliver():
        await trio.sleep(1)
    assert [len(request) for request in shop.application.requests] == [3, 3, 1]
    assert shop.application.contents == list(range(1, 8))
