"""The JSON shape of everything that the server says: one expected object for each message of the contract."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import notices
from broker.errors import ErrorCode, Refused
from broker.model import Event, Position, Shown
from broker.notices import Notice
from broker.protocol.codec import encode_event, encode_notice
from broker.protocol.content import chat_content, custom_content, notifier_content

CHAT = Event(chat_content("ann", "hi", 500), 1_700_000_000_123, 7)
CHAT_SAID = {
    "type": "chat",
    "room": "den",
    "user_id": "ann",
    "text": "hi",
    "offset": 7,
    "epoch": "e1",
    "time": 1_700_000_000_123,
}
ORDER = Event(
    notifier_content(b'{"type":"order","n":1,"offset":99,"epoch":"x","time":0,"room":"x"}')[0], 5, 8
)
ORDER_SAID = {"type": "order", "n": 1, "room": "den", "offset": 8, "epoch": "e1", "time": 5}
CURSOR = Event(custom_content("ann", "cursor", msgspec.Raw(b'{"x": [1]}')), 6, None)
CURSOR_SAID = {
    "type": "event",
    "event": "cursor",
    "user_id": "ann",
    "data": {"x": [1]},
    "room": "den",
    "time": 6,
}
AT = Position("e1", 8)


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (notices.RoomEvent("den", "e1", CHAT), CHAT_SAID),
        (notices.RoomEvent("den", "e1", ORDER), ORDER_SAID),
        (notices.RoomEvent("den", "e1", CURSOR), CURSOR_SAID),
        (
            notices.RoomEvent("den", "e1", Event(chat_content("ann", "a" * 501, 500), 1, 1)),
            {
                "type": "chat",
                "room": "den",
                "user_id": "ann",
                "text": "a" * 500,
                "truncated": True,
                "offset": 1,
                "epoch": "e1",
                "time": 1,
            },
        ),
        (
            notices.UserJoined("den", "ann", 3),
            {"type": "user_joined", "room": "den", "user_id": "ann", "room_size": 3},
        ),
        (
            notices.UserLeft("den", "ann", 2),
            {"type": "user_left", "room": "den", "user_id": "ann", "room_size": 2},
        ),
        (
            notices.PresenceChanged("den", ("ann", "ann"), (), 102),
            {
                "type": "presence_changed",
                "room": "den",
                "joined": ["ann", "ann"],
                "left": [],
                "room_size": 102,
            },
        ),
        (
            notices.Joined("den", 2, AT, True, (CHAT, ORDER), "r1"),
            {
                "type": "joined",
                "room": "den",
                "room_size": 2,
                "offset": 8,
                "epoch": "e1",
                "recovered": True,
                "messages": [CHAT_SAID, ORDER_SAID],
                "id": "r1",
            },
        ),
        (
            notices.Joined("den", 1, Position("e1", 0), False, ()),
            {
                "type": "joined",
                "room": "den",
                "room_size": 1,
                "offset": 0,
                "epoch": "e1",
                "recovered": False,
                "messages": [],
            },
        ),
        (
            notices.UserJoined("den", "ann", 1, Shown("ann", "c1", 5, b'{"name":"Ann"}', b"[1]")),
            {
                "type": "user_joined",
                "room": "den",
                "user_id": "ann",
                "room_size": 1,
                "connection": "c1",
                "info": {"name": "Ann"},
                "state": [1],
            },
        ),
        (
            notices.UserLeft("den", "ann", 1, Shown("ann", "c1", 5, b'{"name":"Ann"}', b"[1]")),
            {
                "type": "user_left",
                "room": "den",
                "user_id": "ann",
                "room_size": 1,
                "connection": "c1",
                "info": {"name": "Ann"},
            },
        ),
        (notices.Called(b'{"status":"paid"}', 7), {"type": "result", "data": {"status": "paid"}, "id": 7}),
        (notices.Called(b"null"), {"type": "result", "data": None}),
        (
            notices.PresenceUpdated("den", Shown("ann", "c1", 5, state=b"0")),
            {"type": "presence_update", "room": "den", "user_id": "ann", "connection": "c1", "state": 0},
        ),
        (
            notices.PresenceChanged("den", ("ann",), (), 102, (Shown("ann", "c1", 5, b"1"),), ("c0",)),
            {
                "type": "presence_changed",
                "room": "den",
                "joined": ["ann"],
                "left": [],
                "room_size": 102,
                "gone": ["c0"],
                "updates": [{"user_id": "ann", "connection": "c1", "info": 1}],
            },
        ),
        (
            notices.Joined(
                *("den", 1, Position("e1", 0), False, (), None, "c1"),
                notices.PresenceList("den", 1, (("ann", 1),), infos={"ann": b'"A"'}),
            ),
            {
                "type": "joined",
                "room": "den",
                "room_size": 1,
                "offset": 0,
                "epoch": "e1",
                "recovered": False,
                "messages": [],
                "connection": "c1",
                "users": [{"user_id": "ann", "connections": 1, "info": "A"}],
            },
        ),
        (
            notices.PresenceList("den", 2, connections=(Shown("ann", "c1"), Shown("bob")), is_partial=True),
            {
                "type": "presence",
                "room": "den",
                "room_size": 2,
                "connections": [{"user_id": "ann", "connection": "c1"}, {"user_id": "bob"}],
                "partial": True,
            },
        ),
        (
            notices.PresenceList("den", 2, user_count=1),
            {"type": "presence", "room": "den", "room_size": 2, "user_count": 1},
        ),
        (notices.Left("den", 0), {"type": "left", "room": "den", "id": 0}),
        (notices.Left("den"), {"type": "left", "room": "den"}),
        (
            notices.Acknowledged("den", AT, ""),
            {"type": "ack", "id": "", "room": "den", "offset": 8, "epoch": "e1"},
        ),
        (notices.Acknowledged("den", None, -1), {"type": "ack", "id": -1, "room": "den"}),
        (
            notices.PresenceList("den", 3, (("ann", 2), ("bob", 1)), "r1"),
            {
                "type": "presence",
                "room": "den",
                "room_size": 3,
                "users": [{"user_id": "ann", "connections": 2}, {"user_id": "bob", "connections": 1}],
                "id": "r1",
            },
        ),
        (
            notices.HistoryPage("den", (CHAT,), AT, "r1"),
            {
                "type": "history",
                "room": "den",
                "messages": [CHAT_SAID],
                "offset": 8,
                "epoch": "e1",
                "id": "r1",
            },
        ),
        (notices.Gap("den", 3, 5), {"type": "gap", "room": "den", "from": 3, "to": 5}),
        (
            notices.Withheld("den", "e1", 3, 5),
            {"type": "withheld", "room": "den", "from": 3, "offset": 5, "epoch": "e1"},
        ),
        (
            notices.HistoryPage("den", (notices.Withheld("den", "e1", 5, 6), CHAT), AT),
            {
                "type": "history",
                "room": "den",
                "messages": [
                    {"type": "withheld", "room": "den", "from": 5, "offset": 6, "epoch": "e1"},
                    CHAT_SAID,
                ],
                "offset": 8,
                "epoch": "e1",
            },
        ),
        (
            notices.Failed(Refused(ErrorCode.INVALID_JSON, "Invalid JSON")),
            {"type": "error", "code": "invalid_json", "message": "Invalid JSON"},
        ),
        (
            notices.Failed(Refused(ErrorCode.RATE_LIMITED, "too many messages", 20), 2**63 - 1),
            {
                "type": "error",
                "code": "rate_limited",
                "message": "too many messages",
                "retry_after_ms": 20,
                "id": 2**63 - 1,
            },
        ),
        (notices.Pong(), {"type": "pong"}),
        (notices.Pong("r1"), {"type": "pong", "id": "r1"}),
        (
            notices.Refreshed(1_700_000_000.9, 60.0004, "r1"),
            {"type": "refreshed", "expires_at": 1_700_000_000, "expires_in_ms": 60_000, "id": "r1"},
        ),
        (notices.Refreshed(None), {"type": "refreshed", "expires_at": None}),
        (notices.Reconnect(2500), {"type": "reconnect", "after_ms": 2500}),
    ],
)
def test_a_notice_has_the_shape_of_the_contract(notice: Notice, expected: dict[str, object]) -> None:
    assert json.loads(encode_notice(notice)) == expected


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_written_as_in_the_contract(code: ErrorCode) -> None:
    said = json.loads(encode_notice(notices.Failed(Refused(code, "why"))))
    assert said == {"type": "error", "code": code.name.lower(), "message": "why"}


def test_there_is_a_shape_for_every_notice() -> None:
    every: list[Notice] = [
        notices.RoomEvent("den", "e", CHAT),
        notices.UserJoined("den", "ann", 1),
        notices.UserLeft("den", "ann", 1),
        notices.PresenceUpdated("den", Shown("ann", "c1")),
        notices.PresenceChanged("den", (), (), 1),
        notices.Joined("den", 1, AT, False, ()),
        notices.Left("den"),
        notices.Acknowledged("den", None, 1),
        notices.Called(b"null"),
        notices.PresenceList("den", 0, ()),
        notices.HistoryPage("den", (), AT),
        notices.Gap("den", 1, 1),
        notices.Withheld("den", "e", 1, 1),
        notices.Failed(Refused(ErrorCode.FORBIDDEN, "")),
        notices.Pong(),
        notices.Refreshed(None),
        notices.Reconnect(1),
    ]
    assert {type(notice) for notice in every} == set(get_args(Notice))
    assert all(json.loads(encode_notice(notice))["type"] for notice in every)


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
offsets = st.none() | st.integers(1, 2**63 - 1)


@given(st.dictionaries(texts, values), texts, texts, st.integers(0, 2**53), offsets)
def test_an_event_is_its_content_and_its_place(
    fields: dict[str, Any], room: str, epoch: str, time_ms: int, offset: int | None
) -> None:
    message = fields | {"type": "order"}
    content, _ = notifier_content(json.dumps(message).encode())
    said = json.loads(encode_event(room, epoch, Event(content, time_ms, offset)))
    place = {"room": room, "time": time_ms}
    if offset is not None:
        place |= {"offset": offset, "epoch": epoch}
    own = {name: value for name, value in message.items() if name not in {"room", "offset", "epoch", "time"}}
    assert said == own | place


@given(texts, texts, texts, st.integers(0, 20))
def test_a_chat_with_any_text_is_readable(user_id: str, text: str, room: str, most: int) -> None:
    event = Event(chat_content(user_id, text, most), 1, 1)
    said = json.loads(encode_notice(notices.RoomEvent(room, "e", event)))
    assert (said["user_id"], said["text"], said["room"]) == (user_id, text[:most], room)
    [told] = json.loads(encode_notice(notices.HistoryPage(room, (event,), Position("e", 1))))["messages"]
    assert told == said
