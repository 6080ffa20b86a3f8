"""Notices as server-sent events, and the outbox of a stream."""

import json

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import CloseCode
from broker.http.api.sse import CHUNK_BYTES, HEARTBEAT, EventOutbox, SseCodec, parse_event_id
from broker.model import Event, EventHeader, Position
from broker.notices import Joined, Pong, RoomEvent, UserJoined
from broker.rooms.frame import Source, room_frame
from broker.rooms.tally import Tally
from broker.sessions.backlog import Backlog
from tests.support.members import framed

POSITION = Position("e1", 7)


def parse(text):
    """Read events as the HTML standard (9.2.6) says: a list of (type, last event id, data)."""
    events, last_id, kind, data = [], "", "", []
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                events.append((kind or "message", last_id, "\n".join(data)))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            last_id = value
        elif field == "data":
            data.append(value)
        elif field == "event":
            kind = value
    return events


def said(offset, content=b'{"type":"x"}'):
    return RoomEvent("room", "e1", Event(content, 1000, offset))


def test_stored_messages_have_an_id_and_others_have_not():
    events = parse(SseCodec().encode([UserJoined("room", "ann", 1), said(7), said(None), said(8)]))
    assert [last_id for _, last_id, _ in events] == ["", "e1:7", "e1:7", "e1:8"]
    assert json.loads(events[1][2])["offset"] == 7
    assert json.loads(events[0][2]) == {
        "type": "user_joined",
        "room": "room",
        "user_id": "ann",
        "room_size": 1,
    }


def test_joined_tells_the_position_when_nothing_follows():
    ((_, last_id, data),) = parse(SseCodec().encode([Joined("room", 1, POSITION, False, ())]))
    assert last_id == "e1:7"
    assert json.loads(data)["type"] == "joined"


def test_missed_messages_follow_joined_with_their_own_ids():
    missed = (Event(b'{"type":"x"}', 1, 6), Event(b'{"type":"y"}', 2, 7))
    events = parse(SseCodec().encode([Joined("room", 1, POSITION, True, missed)]))
    assert [last_id for _, last_id, _ in events] == ["", "e1:6", "e1:7"]
    first = json.loads(events[0][2])
    assert (first["recovered"], first["messages"]) == (True, [])
    assert [json.loads(data)["type"] for _, _, data in events[1:]] == ["x", "y"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(["\n", "\r", "\r\n", "\n\n", "\n \n"]),
)
def test_line_ends_between_tokens_do_not_break_an_event(value, blank):
    separators = ("," + blank, ":" + blank)
    content = json.dumps({"type": "x", "value": value}, separators=separators).encode()
    events = parse(SseCodec().encode([said(1, content), said(2)]))
    assert len(events) == 2
    assert json.loads(events[0][2])["value"] == value


def test_codecs_are_equal_so_that_streams_share_their_frames():
    assert SseCodec() == SseCodec()
    assert hash(SseCodec()) == hash(SseCodec())


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("e1:7", POSITION),
        ("a:b:7", Position("a:b", 7)),
        ("e1:0", Position("e1", 0)),
        (None, None),
        ("", None),
        ("7", None),
        (":7", None),
        ("e1:", None),
        ("e1:-1", None),
        ("e1:x", None),
        ("e1:²", None),
        ("e1:" + "9" * 30, None),
    ],
)
def test_an_event_id_is_a_position_or_nothing(text, position):
    assert parse_event_id(text) == position


class Ending:
    def __init__(self):
        self.codes = []

    def __call__(self, code, reason):
        self.codes.append(code)


def make_outbox(limit_bytes=100):
    ending = Ending()
    return EventOutbox(
        SseCodec(), limit_bytes=limit_bytes, disconnect=ending, tally=Tally(), backlog=Backlog()
    ), ending


def test_an_abandoned_outbox_is_no_backlog_whatever_comes_until_its_room_notices():
    backlog = Backlog()
    outbox = EventOutbox(SseCodec(), limit_bytes=100, disconnect=Ending(), tally=Tally(), backlog=backlog)
    for comes_first in (True, False):
        if comes_first:
            assert outbox.offer(framed(b"before"))
            assert backlog.total_bytes == 6
            outbox.abandon()
        assert outbox.offer(framed(b"x" * 60))
        assert outbox.offer(framed(b"x" * 60)), "refused, it would be held"
        outbox.reply(Pong())
        outbox.release()
        outbox.close(b"last")
        assert backlog.total_bytes == 0


async def test_waiting_messages_are_sent_together_in_order():
    outbox, _ = make_outbox()
    assert outbox.offer(framed(b"one"))
    assert outbox.offer(framed(b"two"))
    assert await outbox.next_chunk(1) == b"onetwo"


async def test_a_reader_is_woken(autojump_clock):
    outbox, _ = make_outbox()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await outbox.next_chunk(60) == b"one"

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        outbox.offer(framed(b"one"))
    assert trio.current_time() < 1


async def test_silence_is_broken_by_a_heartbeat(autojump_clock):
    outbox, _ = make_outbox()
    assert await outbox.next_chunk(15) == HEARTBEAT
    assert trio.current_time() == pytest.approx(15, abs=0.1)
    assert parse(HEARTBEAT) == []


async def test_past_the_limit_frames_are_refused_and_the_stream_ends():
    outbox, ending = make_outbox(limit_bytes=10)
    assert outbox.offer(framed(b"x" * 8))
    assert not outbox.offer(framed(b"x" * 8))
    outbox.hold(framed(b"z", 1, 1))
    assert ending.codes == [CloseCode.TOO_SLOW]


@pytest.mark.parametrize("policy", ["drop", "latest"])
async def test_a_room_s_own_policy_holds_for_its_streams(policy):
    outbox, ending = make_outbox(limit_bytes=400_000)
    lost = 0
    for offset in range(1, 1001):
        event = RoomEvent("den", "e", Event(b'{"type":"x"}', 0, offset, EventHeader("x")))
        if not outbox.offer(room_frame(b"x" * 1000, Source("den", policy), [event])):
            lost += outbox.hold(room_frame(b"x" * 1000, Source("den", policy), [event]))
    taken = 400 if policy == "drop" else CHUNK_BYTES // 1000
    newest = 0 if policy == "drop" else 1
    assert lost == 1000 - taken - newest
    heard = b""
    while len(heard) < taken * 1000 or heard.endswith(b"x"):
        heard += await outbox.next_chunk(1)
    rest = heard[taken * 1000 :]
    gap, *events = [json.loads(data) for _, _, data in parse(rest)]
    assert (gap["type"], gap["from"], gap["to"]) == ("gap", taken + 1, 1000 - newest)
    assert [event["offset"] for event in events] == [1000][:newest]
    assert outbox.offer(framed(b"again"))
    assert ending.codes == []


async def test_a_frame_larger_than_the_limit_is_taken_when_nothing_waits():
    outbox, ending = make_outbox(limit_bytes=10)
    assert outbox.offer(framed(b"x" * 50))
    assert len(await outbox.next_chunk(1)) == 50
    outbox.reply(Joined("room", 1, POSITION, False, ()))
    assert ending.codes == []


async def test_replies_may_take_twice_the_limit():
    outbox, ending = make_outbox(limit_bytes=20)
    size = len(SseCodec().encode([Pong()]))
    assert size == 22
    outbox.offer(framed(b"x" * 18))
    outbox.reply(Pong())
    assert ending.codes == []
    outbox.reply(Pong())
    assert ending.codes == [CloseCode.TOO_SLOW]


async def test_room_is_made_by_reading():
    outbox, _ = make_outbox(limit_bytes=10)
    assert outbox.offer(framed(b"x" * 10))
    assert not outbox.offer(framed(b"y"))
    await outbox.next_chunk(1)
    assert outbox.offer(framed(b"y" * 10))


async def test_writes_are_of_a_moderate_size():
    outbox, _ = make_outbox(limit_bytes=1_000_000)
    for _ in range(10):
        outbox.offer(framed(b"x" * 30_000))
    sizes = [len(await outbox.next_chunk(1)) for _ in range(5)]
    assert sizes == [60_000] * 5


async def test_a_closed_outbox_returns_its_frames_and_ends():
    outbox, _ = make_outbox()
    outbox.offer(framed(b"one"))
    outbox.close(b"last")
    outbox.close(b"again")
    assert outbox.offer(framed(b"x" * 1000))
    assert await outbox.next_chunk(1) == b"onelast"
    assert await outbox.next_chunk(1) == b""


async def test_a_closed_outbox_can_drop_its_frames():
    outbox, _ = make_outbox(limit_bytes=10)
    outbox.offer(framed(b"x" * 10))
    outbox.close(b"last", drop=True)
    assert await outbox.next_chunk(1) == b"last"


async def test_closing_wakes_a_reader(autojump_clock):
    outbox, _ = make_outbox()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await outbox.next_chunk(60) == b"last"
            assert await outbox.next_chunk(60) == b""

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close(b"last")
    assert trio.current_time() < 1
