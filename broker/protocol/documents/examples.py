"""Examples of all messages: those of clients as they write them, those of the server as its codec writes them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from broker import notices
from broker.errors import CloseCode, ErrorCode, Refused
from broker.model import Event, Position, Shown
from broker.notices import Notice, RoomEvent
from broker.protocol.codec import encode_notice
from broker.protocol.content import chat_content, custom_content, notifier_content
from broker.protocol.messages import Closing

Example: TypeAlias = dict[str, Any]

_ROOM, _EPOCH, _TIME_MS = "lobby", "9f86d081884c7d65", 1_780_000_000_000
_POSITION = Position(_EPOCH, 7)
_SINCE = {"offset": 5, "epoch": _EPOCH}

_INFO = b'{"name":"Ann"}'
_ANN = Shown("ann", "5f0c9e62a1b34d78-1", _TIME_MS, _INFO)
_ANN_TYPES = msgspec.structs.replace(_ANN, state=b'{"typing":true}')
_BOB = Shown("bob", "5f0c9e62a1b34d78-2", _TIME_MS)

_CHAT = Event(chat_content("ann", "Good morning", 500), _TIME_MS, 6)
_MOVE = Event(custom_content("bob", "move", msgspec.Raw(b'{"from":"e2","to":"e4"}')), _TIME_MS + 20, 7)
_TYPING = Event(custom_content("bob", "typing", msgspec.Raw(b"true")), _TIME_MS + 30, None)
_GOAL = Event(chat_content("ann", "1:0", 500, tags={"kind": "goal", "match": "final"}), _TIME_MS + 50, 12)
_ORDER = Event(notifier_content(b'{"type":"order.paid","order":5}')[0], _TIME_MS + 40, 8)

COMMANDS: Sequence[Example] = (
    {"type": "chat", "room": _ROOM, "text": "Good morning", "id": 1},
    {"type": "chat", "text": "on a connection to /ws/lobby, without an answer"},
    {"type": "publish", "room": _ROOM, "event": "move", "data": {"from": "e2", "to": "e4"}, "id": "move-1"},
    {"type": "publish", "room": _ROOM, "event": "typing", "data": True, "ephemeral": True},
    {"type": "publish", "room": _ROOM, "event": "move", "data": {"from": "e7", "to": "e5"}, "echo": False},
    {"type": "chat", "room": _ROOM, "text": "1:0", "tags": {"kind": "goal", "match": "final"}, "id": 15},
    {"type": "call", "room": _ROOM, "method": "order_status", "data": {"order": 5}, "id": 17},
    {"type": "call", "room": _ROOM, "method": "roll", "id": 18},
    {"type": "ping", "id": 2},
    {"type": "join", "room": _ROOM, "id": 3},
    {"type": "join", "room": _ROOM, "since": _SINCE, "id": 4},
    {"type": "join", "room": _ROOM, "last": 50, "id": 14},
    {"type": "join", "room": _ROOM, "tags": {"kind": ["goal", "card"]}, "since": _SINCE, "id": 16},
    {"type": "leave", "room": _ROOM, "id": 5},
    {"type": "presence", "room": _ROOM, "id": 6},
    {"type": "join", "room": _ROOM, "presence": "connection", "id": 10},
    {"type": "presence", "room": _ROOM, "by": "connection", "id": 11},
    {"type": "presence", "room": _ROOM, "by": "count", "id": 12},
    {"type": "set_state", "room": _ROOM, "state": {"typing": True}, "id": 13},
    {"type": "set_state", "room": _ROOM, "state": None},
    {"type": "history", "room": _ROOM, "since": _SINCE, "limit": 100, "id": 7},
    {"type": "history", "room": _ROOM, "limit": 50, "reverse": True, "id": 8},
    {"type": "refresh", "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl", "id": 9},
)

_NOTICES: Sequence[Notice] = (
    RoomEvent(_ROOM, _EPOCH, _CHAT),
    RoomEvent(_ROOM, _EPOCH, Event(chat_content("ann", "Good", 2), _TIME_MS, 9)),
    RoomEvent(_ROOM, _EPOCH, Event(chat_content("ann", "Good morning", 500, _INFO), _TIME_MS, 10)),
    RoomEvent(_ROOM, _EPOCH, _MOVE),
    RoomEvent(_ROOM, _EPOCH, _TYPING),
    RoomEvent(_ROOM, _EPOCH, _ORDER),
    RoomEvent(_ROOM, _EPOCH, _GOAL),
    notices.UserJoined(_ROOM, "ann", 2),
    notices.UserLeft(_ROOM, "ann", 1),
    notices.UserJoined(_ROOM, "ann", 2, _ANN),
    notices.UserLeft(_ROOM, "ann", 1, _ANN_TYPES),
    notices.PresenceUpdated(_ROOM, _ANN_TYPES),
    notices.PresenceChanged(_ROOM, ("ann", "bob"), ("cid",), 120),
    notices.PresenceChanged(_ROOM, ("ann", "bob"), ("cid",), 120, (_ANN_TYPES,), ("5f0c9e62a1b34d78-0",)),
    notices.Joined(_ROOM, 2, _POSITION, is_recovered=False, events=(), request_id=3),
    notices.Joined(
        *(_ROOM, 2, _POSITION, False, (), 10, _BOB.connection),
        notices.PresenceList(_ROOM, 2, connections=(_ANN_TYPES, _BOB)),
    ),
    notices.Joined(_ROOM, 2, _POSITION, is_recovered=True, events=(_CHAT, _MOVE), request_id=4),
    notices.Joined(
        *(_ROOM, 2, Position(_EPOCH, 12)),
        is_recovered=True,
        events=(notices.Withheld(_ROOM, _EPOCH, 6, 11), _GOAL),
        request_id=16,
    ),
    notices.Left(_ROOM, 5),
    notices.Left(_ROOM),
    notices.Acknowledged(_ROOM, Position(_EPOCH, 6), 1),
    notices.Acknowledged(_ROOM, None, "typing-1"),
    notices.Called(b'{"status":"shipped"}', 17),
    notices.Called(b"null", 18),
    notices.PresenceList(_ROOM, 3, (("ann", 1), ("bob", 2)), 6),
    notices.PresenceList(_ROOM, 1, (("ann", 1),), 6, {"ann": _INFO}),
    notices.PresenceList(_ROOM, 2, None, 11, connections=(_ANN_TYPES, _BOB)),
    notices.PresenceList(_ROOM, 3, None, 12, user_count=2),
    notices.HistoryPage(_ROOM, (_CHAT, _MOVE), _POSITION, 7),
    notices.Gap(_ROOM, 3, 5),
    notices.Withheld(_ROOM, _EPOCH, 8, 11),
    notices.Failed(Refused(ErrorCode.INVALID_MESSAGE, "object missing required field `text`"), 1),
    notices.Failed(Refused(ErrorCode.RATE_LIMITED, "too many messages", 250), "move-1"),
    notices.Failed(Refused(ErrorCode.INVALID_JSON, "Invalid JSON")),
    notices.Pong(2),
    notices.Refreshed(_TIME_MS / 1000 + 3600, 3600.0, 9),
    notices.Refreshed(None, None, 9),
    notices.Reconnect(2500),
)


def server_examples() -> list[Example]:
    """Return the examples of the server's messages."""
    return [msgspec.json.decode(encode_notice(notice)) for notice in _NOTICES]


def closing_examples() -> list[Example]:
    """Return the examples of the end of an event stream."""
    return [msgspec.to_builtins(Closing(int(CloseCode.REMOVED), "removed from the room"))]
