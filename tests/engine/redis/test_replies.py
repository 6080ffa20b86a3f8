"""Any reply of Redis, a script or another program: each parser returns a value of its type or raises ValueError."""

from collections.abc import Callable
from typing import Any

import hiredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.base import Receipt, Run
from broker.engine.presence import RemoteChange, RemotePresence, RoomSummary
from broker.engine.redis.replies import (
    Greeting,
    is_remote_change,
    is_removal,
    pack_member,
    pack_removal,
    parse_announced_version,
    parse_close_counts,
    parse_count,
    parse_greeting,
    parse_lease,
    parse_position,
    parse_published,
    parse_receipts,
    parse_remote_change,
    parse_remote_presence,
    parse_removal,
    parse_room_names,
    parse_run,
    parse_summary,
)
from broker.engine.redis.room_replies import (
    Claim,
    parse_answer,
    parse_claim,
    parse_peek,
    parse_stored,
    parse_timers,
)
from broker.engine.room_store import Answer, DueTimer, Move, StoredRoom, StoredState
from broker.model import Draft, Event, EventHeader, Position, Shown

DRAFTS = [Draft(b"{}"), Draft(b"{}")]

MOVE = EventHeader("event", "move", "ann", "c-1", (("kind", "goal"),))
MOVE_FIELDS = ["event", "move", "ann", "c-1", [["kind", "goal"]]]


def pack_change(members: object) -> bytes:
    return msgspec.msgpack.encode({"node": "n", "version": 2, "follows": 1, "members": members})


PARSERS: dict[Callable[[Any], object], tuple[type, ...]] = {
    parse_greeting: (Greeting,),
    parse_position: (Position,),
    lambda reply: parse_receipts(reply, DRAFTS, 0): (list,),
    parse_run: (Run,),
    lambda reply: parse_remote_presence(reply, "here"): (RemotePresence,),
    lambda reply: parse_summary("den", reply): (RoomSummary, type(None)),
    parse_lease: (tuple,),
    parse_announced_version: (int,),
    parse_count: (int,),
    parse_close_counts: (tuple,),
    lambda reply: parse_room_names(reply, "a"): (list,),
    parse_claim: (Claim, str, type(None)),
    parse_peek: (StoredRoom,),
    lambda reply: parse_stored(reply, DRAFTS, 0): (list, type(None)),
    lambda reply: parse_answer(reply, 0): (Answer, type(None)),
    lambda reply: parse_timers(reply, str.upper): (list,),
}

strings = st.sampled_from(
    [b"", b"den", b"8.0.0", b"version", b"1-0", b"7", b"-1", b"\xff", b"9" * 30, b"1_0", b" 1 ", b"5 7 e c d"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | strings
    | st.binary(max_size=8)
    | st.builds(hiredis.ReplyError, st.just("ERR"))
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(strings, inner, max_size=2)
)

# Replies of the right shape but for one place or two.
entries = st.lists(
    st.tuples(strings | leaves, st.lists(strings | leaves, min_size=3, max_size=5)).map(list), max_size=3
)
nearly = st.one_of(
    st.tuples(strings | leaves, leaves).map(list),
    st.tuples(strings | leaves, leaves, leaves).map(list),
    st.tuples(strings, st.integers(-1, 9), st.integers(-1, 9), entries | leaves).map(list),
    st.lists(strings, min_size=2, max_size=6),
    st.tuples(strings, leaves, strings, leaves, st.lists(strings | leaves, max_size=4) | leaves).map(list),
    st.tuples(
        leaves,
        st.sampled_from([b"", b"lost", b"left"]),
        st.lists(strings, max_size=4),
        strings,
        strings,
        leaves,
    ).map(list),
)


@pytest.mark.parametrize("parse", PARSERS)
@given(value=values | nearly)
def test_a_reply_is_read_or_refused(parse: Callable[[Any], object], value: object) -> None:
    try:
        read = parse(value)
    except ValueError:
        return
    assert isinstance(read, PARSERS[parse])
    check(read)


def check(read: object) -> None:
    """The parsed value can be sent to clients."""
    match read:
        case Position():
            assert isinstance(read.epoch, str)
            assert type(read.offset) is int
            assert read.offset >= 0
        case Run():
            check(read.position)
            assert 1 <= read.first_held <= read.position.offset + 1
            for event in read.events:
                check(event)
        case Event():
            assert [type(read.time_ms), type(read.content)] == [int, bytes]
            assert -(2**63) <= read.time_ms < 2**63
            assert type(read.offset) in {int, type(None)}
        case Receipt(position=Position() as position) | Answer(position=Position() as position):
            check(position)
        case RemotePresence():
            for node in read.nodes.values():
                assert all(isinstance(shown, Shown) for shown in node.members.values())
        case list() | tuple():
            for part in read:
                check(part)


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=4)
        | st.binary(max_size=4),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    )
)
@pytest.mark.parametrize("parse", [parse_published, parse_remote_change, parse_removal])
def test_what_another_program_publishes_is_read_or_refused(
    parse: Callable[[bytes], object], value: object
) -> None:
    try_payload(parse, msgspec.msgpack.encode(value))


@given(
    payload=st.binary(max_size=40),
    head=st.sampled_from([b"", b"\x92", b"\x93", b"\x84", b"\x93\xa1e\x01", b"\xdd"]),
)
@pytest.mark.parametrize("parse", [parse_published, parse_remote_change, parse_removal])
def test_bytes_are_read_or_refused(parse: Callable[[bytes], object], payload: bytes, head: bytes) -> None:
    try_payload(parse, head + payload)


@pytest.mark.parametrize(
    ("parse", "payload"),
    [
        (parse_published, b"\x93\xa1e\x01\xdd\xff\xff\xff\xff"),
        (parse_published, b"\x93\xa1e\x01\x92\x01\xa1\xff"),
        (parse_published, msgspec.msgpack.encode(("e", 1, ["{}", 1]))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [1]))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [-1, "{}"]))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [1, "{}"], [], 1))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [1, "{}"], ["[]"], 1))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [1, "{}"], ['{"type":"chat"}'], 1))),
        (parse_published, msgspec.msgpack.encode(("e", 1, [1, "{}"], ['["chat"]', '["chat"]'], 1))),
        (parse_remote_change, pack_change(["c1"])),
        (parse_remote_change, pack_change(["c1", 1])),
        (parse_remote_change, pack_change(["c1", "{}"])),
        (parse_remote_change, pack_change(["c1", "[]"])),
        (parse_remote_change, pack_change(["c1", "[1]"])),
        (parse_remote_change, pack_change(["c1", '["ann","1"]'])),
        (parse_remote_change, pack_change(["c1", '["ann",1,{]'])),
        (parse_published, msgspec.msgpack.encode(("n", 2, 1, ["ann", "3"]))),
        (parse_published, msgspec.msgpack.encode(("n", 2, 0, {}))),
        (parse_removal, b"\x92\xa1\xff\xa1a"),
        (parse_removal, b"\x91" * 100_000),
    ],
)
def test_a_payload_that_cannot_be_meant_is_refused(parse: Callable[[bytes], object], payload: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text is msgspec's
        parse(payload)


def try_payload(parse: Callable[[bytes], object], payload: bytes) -> None:
    try:
        read = parse(payload)
    except ValueError:
        return
    if isinstance(read, RemoteChange):
        assert all(isinstance(shown, Shown | None) for shown in read.members.values())
    else:
        check(read)


def test_what_nodes_say_is_read() -> None:
    assert parse_published(msgspec.msgpack.encode(("e", 5, [1, "{}", 0, "[]"]))) == (
        "e",
        [Event(b"{}", 5, 1), Event(b"[]", 5, None)],
    )
    assert parse_removal(pack_removal("n", "ann")) == ("n", "ann")
    ann = Shown("ann", "c1", 5, b'{"name":"Ann"}', b"[1]")
    members = ["c1", pack_member(ann).decode(), "c2", "", "c3", '["bob"]', "c4", '["cas",9,null,1,"later"]']
    assert parse_remote_change(pack_change(members)) == RemoteChange(
        *("n", 2, 1),
        {"c1": ann, "c2": None, "c3": Shown("bob", "c3"), "c4": Shown("cas", "c4", 9, None, b"1")},
    )
    assert parse_remote_change(pack_change({})).members == {}


def test_what_the_scripts_of_rooms_with_code_answer_is_read() -> None:
    assert parse_peek([b"", []]) == StoredRoom()
    assert parse_peek([b"there", [b"a", b"5"]]) == StoredRoom(None, {"a": 5}, "there")
    assert parse_claim(0) is None
    assert parse_claim(b"there") == "there"
    assert parse_claim([7, b"", []]) == Claim(7, None, StoredRoom())
    state = StoredState("Quiz", 2, b"\xff {}")
    reply = [7, b"lost", [b"a", b"5", b"", b"-5"], b"Quiz", b"2", b"\xff {}"]
    assert parse_claim(reply) == Claim(7, Move.LOST, StoredRoom(state, {"a": 5, "": -5}))
    assert parse_stored(0, DRAFTS, 5) is None
    assert parse_stored([b"e", 1, 0], DRAFTS, 5) == parse_receipts([b"e", 1, 0], DRAFTS, 5)
    assert parse_answer(None, 0) is None
    assert parse_answer(b"5 0  a b ", 4) == Answer(b"a b ")
    assert parse_answer(b"5 7 e ", 4) == Answer(b"", Position("e", 7))
    assert parse_answer(b"5 7 e ", 5) is None
    assert parse_timers([b"den", b"a", b"5"], str.upper) == [DueTimer("DEN", "a", 5)]


@pytest.mark.parametrize(
    ("parse", "reply"),
    [
        *((parse_claim, reply) for reply in (1, -1, True, 0.0, b"\xff", None, [], [7, b""], [7, b"", {}])),
        *((parse_claim, [number, b"", []]) for number in (0, -1, b"7", True)),
        *((parse_claim, [7, move, []]) for move in (b"taken", b"\xff", 0)),
        *((parse_claim, [7, b"", flat]) for flat in ([b"a"], [b"a", 5], [b"a", b""], [b"a", b"--5"])),
        *(
            (parse_claim, [7, b"", [], *rest])
            for rest in ([b"C"], [b"C", b"-1", b""], [b"C", b"1", b"", b""])
        ),
        *((lambda reply: parse_stored(reply, DRAFTS, 0), reply) for reply in (1, False, 0.0, [b"e"], None)),
        *(
            (lambda reply: parse_answer(reply, 0), reply)
            for reply in (0, b"", b"5 7 e", b"5 -7 e ", b"x 7 e ")
        ),
        *((lambda reply: parse_timers(reply, str), reply) for reply in (0, [b"a"], [b"a", b"b", 5])),
    ],
)
def test_another_answer_to_the_scripts_of_rooms_with_code_is_refused(
    parse: Callable[[Any], object], reply: object
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text differs
        parse(reply)


def test_a_node_of_an_earlier_version_has_a_member_for_each_connection() -> None:
    reply = [b"store", 9, b"here", 1, [b"c1", b'["ann"]'], [], b"old", 2, [], [b"ann", b"2", b"bob", b"1"]]
    [(node, presence)] = parse_remote_presence(reply, "here").nodes.items()
    assert (node, presence.version) == ("old", 2)
    assert sorted((shown.user_id, shown.connection) for shown in presence.members.values()) == [
        ("ann", ""),
        ("ann", ""),
        ("bob", ""),
    ]


later_values = st.none() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.text(max_size=2))


@given(more=st.lists(later_values, min_size=1), fields=st.lists(later_values))
def test_elements_that_a_later_version_publishes_are_dropped(
    more: list[object], fields: list[object]
) -> None:
    """They stand behind the headers, and behind the fields of a header."""
    known_fields = msgspec.json.decode(msgspec.json.encode(MOVE))
    headers = ['["order"]', msgspec.json.encode([*known_fields, *fields]).decode()]
    payload = msgspec.msgpack.encode(("e", 5, [1, "{}", 0, "[]"], headers, *more))
    assert not is_remote_change(payload)
    assert not is_removal(payload)
    assert parse_published(payload) == (
        "e",
        [Event(b"{}", 5, 1, EventHeader("order")), Event(b"[]", 5, None, MOVE)],
    )


later_fields = st.lists(
    st.tuples(st.binary(max_size=3), st.binary(max_size=3)).filter(lambda pair: pair[0] != b"h"), max_size=3
)


@given(more=later_fields)
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ([], EventHeader("order")),
        ([b"h", b'["a","b"]'], EventHeader("a", "b")),
        ([b"h", msgspec.json.encode(MOVE_FIELDS)], MOVE),
    ],
)
def test_an_entry_of_an_earlier_or_later_version_is_read(
    header: list[bytes], expected: EventHeader, more: list[tuple[bytes, bytes]]
) -> None:
    """It has no header, then the one that its content tells; or a shorter one; or fields behind the header."""
    fields = [b"t", b"5", b"c", b'{"type":"order"}', *header, *(part for pair in more for part in pair)]
    event = Event(b'{"type":"order"}', 5, 7, expected)
    assert parse_run([b"e", 7, 7, [[b"7-0", fields]]]) == Run(Position("e", 7), 7, (event,))


@pytest.mark.parametrize("fields", [[], [b"t", b"5"], [b"t", b"5", b"c"], [b"t", b"5", b"c", b"{}", b"odd"]])
def test_an_entry_without_time_and_content_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        parse_run([b"e", 7, 7, [[b"7-0", fields]]])


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b"\xff", b"[1]", b'["a",1]', b"[" * 100_000, 1, None])
def test_an_entry_whose_header_is_none_is_refused(header: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text is msgspec's
        parse_run([b"e", 7, 7, [[b"7-0", [b"t", b"5", b"c", b"{}", b"h", header]]]])
