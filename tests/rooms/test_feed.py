"""Events of the feed: split at the first gap, and bounded on their way into the mailbox."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from actors.testing import Probe
from broker.engine.feed import Feed, FeedListener
from broker.model import Event, Position
from broker.rooms.feed_order import order_feed_events
from broker.rooms.feed_subscription import MOST_WAITING_BYTES, FeedSubscription
from broker.rooms.messages import CatchUp, FeedEvents, RoomMessage


def event(offset: int | None, size_bytes: int = 2) -> Event:
    return Event(b"x" * size_bytes, 0, offset)


def arrived(*offsets: int | None, epoch: str = "e") -> FeedEvents:
    return FeedEvents(epoch, [event(offset) for offset in offsets])


def test_next_events_are_delivered_and_earlier_ones_dropped() -> None:
    found = order_feed_events(
        Position("e", 4), [arrived(3, 4), arrived(None), arrived(4, None, 5), arrived(6)]
    )
    assert [each.offset for each in found.events] == [None, None, 5, 6]
    assert (found.position, list(found.rest)) == (Position("e", 6), [])


def test_events_behind_a_gap_wait() -> None:
    late = [arrived(None, 7), arrived(8)]
    found = order_feed_events(Position("e", 4), [arrived(5), *late])
    assert [each.offset for each in found.events] == [5]
    assert (found.position, list(found.rest)) == (Position("e", 5), late)


def test_another_epoch_has_to_wait() -> None:
    other = [arrived(5, epoch="f")]
    found = order_feed_events(Position("e", 4), other)
    assert (found.events, found.position, list(found.rest)) == ([], Position("e", 4), other)


@given(st.integers(0, 5), st.lists(st.integers(1, 3), max_size=8), st.data())
def test_delivered_events_are_consecutive_under_loss_and_repetition(
    told: int, sizes: list[int], data: st.DataObject
) -> None:
    appends, last = [], 0
    for size in sizes:
        appends.append(arrived(*range(last + 1, last + size + 1)))
        last += size
    came = [
        one for one in appends if data.draw(st.integers(0, 9)) for _ in range(data.draw(st.integers(1, 2)))
    ]
    position, heard = Position("e", min(told, last)), []
    while came:
        found = order_feed_events(position, came)
        heard += [each.offset for each in found.events]
        position, came = found.position, list(found.rest)
        if came:  # a room reads what is missing; here it is as if trimmed
            first = came[0].events[0].offset
            assert first is not None
            assert first > position.offset + 1
            position = Position("e", first - 1)
    assert heard == sorted(set(heard))


class StillFeed(Feed):
    """Remembers who listens, and is otherwise used by hand."""

    def __init__(self) -> None:
        self.rooms: list[str] = []

    async def subscribe(self, room: str, listener: FeedListener) -> None:
        self.rooms.append(room)

    def unsubscribe(self, room: str) -> None:
        self.rooms.remove(room)


async def take(probe: Probe[RoomMessage], kinds: Sequence[type[FeedEvents | CatchUp]]) -> None:
    for kind in kinds:
        await probe.wait_message(kind)
    await probe.check_silence()


async def test_more_bytes_than_may_wait_are_caught_up_instead() -> None:
    async with Probe[RoomMessage]() as probe:
        subscription = FeedSubscription("den")
        await subscription.open(StillFeed(), probe.ref)
        for offset in range(1, 5):
            subscription.arrived("e", [event(offset, MOST_WAITING_BYTES // 2)])
        await take(probe, [FeedEvents, FeedEvents, CatchUp])
        subscription.begin_catch_up()
        subscription.arrived("e", [event(5)])
        await take(probe, [CatchUp])
        for _ in range(2):
            subscription.note_handled(FeedEvents("e", [event(1, MOST_WAITING_BYTES // 2)]))
        subscription.begin_catch_up()
        # One alone may be of any size: it is in memory already.
        subscription.arrived("e", [event(6, MOST_WAITING_BYTES * 2)])
        await take(probe, [FeedEvents])


async def test_a_full_inbox_is_caught_up_once() -> None:
    async with Probe[RoomMessage](capacity=2) as probe:
        subscription = FeedSubscription("den")
        await subscription.open(StillFeed(), probe.ref)
        for offset in range(1, 6):
            subscription.arrived("e", [event(offset)])
        subscription.fell_behind()
        await take(probe, [FeedEvents, FeedEvents, CatchUp])


async def test_a_room_that_is_gone_hears_nothing_and_nobody_minds() -> None:
    feed = StillFeed()
    async with Probe[RoomMessage]() as probe:
        subscription = FeedSubscription("den")
        await subscription.open(feed, probe.ref)
        assert (subscription.is_open, feed.rooms) == (True, ["den"])
        probe.ref.stop_nowait()
        subscription.arrived("e", [event(1)])
        subscription.fell_behind()
        await probe.check_silence()
        subscription.close()
        subscription.close()
        assert (subscription.is_open, feed.rooms) == (False, [])
