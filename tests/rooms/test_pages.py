"""Missed events come in messages that common clients can read, indistinguishable from live ones."""

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from broker.model import Event, Position, Shown
from broker.notices import HistoryPage, Joined, RoomEvent
from broker.protocol.codec import encode_notice
from broker.rooms.messages import SendHistory
from broker.rooms.presence.batch import NAMES_PER_NOTICE, PresenceBatch
from broker.rooms.recovery import EVENT_BYTES, joined_in_pages

LONGEST_NAME = "\U0001f4a9" * 128


def made(sizes: list[int], first: int = 1) -> tuple[Event, ...]:
    return tuple(
        Event(b'{"type":"x","v":"%b"}' % (b"v" * size), 1_700_000_000_000, first + number)
        for number, size in enumerate(sizes)
    )


@given(
    st.lists(st.integers(0, 3000), max_size=40),
    st.integers(1, 5000),
    st.sampled_from(["den", LONGEST_NAME, '"' * 128, "\\" * 128]),
)
@example([0] * 40, 1, "den")
def test_pages_are_bounded_and_continue_each_other(sizes: list[int], page_bytes: int, room: str) -> None:
    events = made(sizes, first=10)
    position = Position("e" * 32, 9 + len(events))
    pages = joined_in_pages(Joined(room, 3, position, True, events, "r1"), page_bytes)
    first, *rest = pages
    assert isinstance(first, Joined)
    assert (first.room, first.room_size, first.is_recovered, first.request_id) == (room, 3, True, "r1")
    # A client that holds the position of `joined` hears the next offset, and the next, up to the room's.
    assert all(isinstance(notice, RoomEvent) for notice in rest)
    heard = [*first.events, *(notice.event for notice in rest if isinstance(notice, RoomEvent))]
    assert heard == list(events)
    last = first.events[-1].offset if first.events else position.offset
    assert first.position == Position(position.epoch, last or 0)
    encoded = encode_notice(first)
    assert len(encoded) <= page_bytes + 1024 or len(first.events) == 1
    # No page is smaller than it has to be, but for what the places of its events are estimated at.
    if rest and isinstance(rest[0], RoomEvent):
        estimate = (EVENT_BYTES + 4 * len(room)) * (len(first.events) + 1)
        assert sum(len(event.content) for event in (*first.events, rest[0].event)) + estimate > page_bytes


async def test_a_member_that_comes_back_hears_the_pages_before_anything_live(open_stage) -> None:
    async with open_stage(page_bytes=2000) as stage:
        since = await stage.position()
        await stage.say(*("x" * 500 for _ in range(10)))
        bob = await stage.join(stage.person("bob"), since=since)
        await stage.say("live")
        joined = bob.joined()
        held = [event.offset for event in joined.events]
        assert held == list(range(1, len(held) + 1))
        assert 0 < len(held) < 10
        assert joined.is_recovered
        assert joined.position.offset == held[-1]
        assert bob.offsets() == list(range(held[-1] + 1, 12))
        [answer] = [reply for reply in bob.outbox.replies if isinstance(reply[0], Joined)]
        assert len(answer) == 1 + 10 - len(held), "one answer, and nothing can come in between"


async def test_a_history_page_has_the_events_that_fit(open_stage) -> None:
    async with open_stage(page_bytes=2000) as stage:
        ann = await stage.enter("ann")
        await stage.say(*("x" * 500 for _ in range(10)))
        ann.forget()
        seen: list[int] = []
        since = None
        while True:
            await stage.tell(SendHistory(ann, since, 1000, False, None))
            page = ann.heard_of(HistoryPage)[-1]
            if not page.events:
                break
            assert len(page.events) < 5
            seen += [event.offset for event in page.events]
            since = Position(page.position.epoch, seen[-1])
        assert seen == list(range(1, 11))
        await stage.tell(SendHistory(ann, None, 1000, True, None))
        newest = [event.offset for event in ann.heard_of(HistoryPage)[-1].events]
        assert newest == list(range(10, 10 - len(newest), -1))
        assert newest


def test_the_joins_of_a_crowd_come_in_notices_that_can_be_read() -> None:
    batch = PresenceBatch("den", 0)
    users = [f"{number}".ljust(128, "\U0001f4a9") for number in range(2 * NAMES_PER_NOTICE + 1)]
    for size, user in enumerate(users, 1):
        assert batch.joined(Shown(user), size) == []
        assert batch.left(Shown(user), size) == []
    notices = batch.take(7)
    told = [msgspec.json.decode(encode_notice(notice)) for notice in notices]
    assert [user for notice in told for user in notice["joined"]] == users
    assert [user for notice in told for user in notice["left"]] == users
    assert {notice["room_size"] for notice in told} == {7}
    assert max(len(encode_notice(notice)) for notice in notices) < 1_000_000
    assert not batch.is_pending
