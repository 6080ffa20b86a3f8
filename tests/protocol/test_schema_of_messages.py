"""Each message that the codec can write is as its JSON Schema says."""

import json
from typing import Any, get_args

from hypothesis import assume, given
from hypothesis import strategies as st

from broker import notices
from broker.errors import ErrorCode, Refused
from broker.model import Event, Position, Shown
from broker.notices import Notice
from broker.protocol.codec import encode_notice
from broker.protocol.content import NATIVE_TYPES, chat_content, custom_content, notifier_content
from tests.support.documents import validator

CLOSED, OPEN = validator("ServerMessage", is_closed=True), validator("ServerMessage")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=128
).filter(lambda name: name not in {".", ".."})
rooms = names | names.map("user_".__add__)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts | st.lists(texts)
ids = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=128)
)
sizes = st.integers(0, 2**53)
positions = st.builds(
    Position, st.text("0123456789abcdef", min_size=1, max_size=64), st.integers(0, 2**63 - 1)
)
data = values.filter(lambda value: value is not None).map(lambda value: json.dumps(value).encode())
chats = st.builds(chat_content, names, texts, st.just(5), st.none() | data)
custom = st.builds(
    lambda user, name, value, info: custom_content(user, name, json.dumps(value).encode(), info),
    names,
    names,
    values,
    st.none() | data,
)
services = st.builds(
    lambda fields, kind: notifier_content(json.dumps(fields | {"type": kind}).encode())[0],
    st.dictionaries(texts, values),
    st.sampled_from(["call", "result"]) | texts.filter(lambda kind: kind and kind not in NATIVE_TYPES),
)
stored = st.builds(Event, chats | custom | services, sizes, st.integers(1, 2**63 - 1))
ephemeral = st.builds(Event, custom | services, sizes, st.none())
withheld = st.builds(notices.Withheld, rooms, texts, sizes, sizes)
pages = st.lists(stored | withheld, max_size=3).map(tuple)
users = st.lists(names, max_size=3).map(tuple)
refusals = st.builds(Refused, st.sampled_from(ErrorCode), texts, st.none() | sizes)
times = st.none() | st.floats(0, 1e12)

members = st.builds(Shown, names, names, sizes, st.none() | data, st.none() | data)
lists = st.builds(
    notices.PresenceList,
    rooms,
    sizes,
    st.none() | st.lists(st.tuples(names, sizes), max_size=3).map(tuple),
    ids,
    st.dictionaries(names, data, max_size=2),
    st.none() | st.lists(members, max_size=2).map(tuple),
    st.none() | sizes,
    st.booleans(),
)

STRATEGIES: dict[Any, st.SearchStrategy[Notice]] = {
    notices.RoomEvent: st.builds(
        notices.RoomEvent, rooms, positions.map(lambda it: it.epoch), stored | ephemeral
    ),
    notices.UserJoined: st.builds(notices.UserJoined, rooms, names, sizes, st.none() | members),
    notices.UserLeft: st.builds(notices.UserLeft, rooms, names, sizes, st.none() | members),
    notices.PresenceUpdated: st.builds(notices.PresenceUpdated, rooms, members),
    notices.PresenceChanged: st.builds(
        notices.PresenceChanged, rooms, users, users, sizes, st.lists(members, max_size=2).map(tuple), users
    ),
    notices.Joined: st.builds(
        notices.Joined, rooms, sizes, positions, st.booleans(), pages, ids, texts, st.none() | lists
    ),
    notices.Left: st.builds(notices.Left, rooms, ids),
    notices.Acknowledged: st.builds(notices.Acknowledged, rooms, st.none() | positions, ids),
    notices.Called: st.builds(notices.Called, values.map(lambda value: json.dumps(value).encode()), ids),
    notices.PresenceList: lists,
    notices.HistoryPage: st.builds(notices.HistoryPage, rooms, pages, positions, ids),
    notices.Gap: st.builds(notices.Gap, rooms, sizes, sizes),
    notices.Withheld: withheld,
    notices.Failed: st.builds(notices.Failed, refusals, ids),
    notices.Pong: st.builds(notices.Pong, ids),
    notices.Refreshed: st.builds(notices.Refreshed, times, times, ids),
    notices.Reconnect: st.builds(notices.Reconnect, sizes),
}


def test_there_is_a_strategy_for_every_notice() -> None:
    assert set(STRATEGIES) == set(get_args(Notice))


@given(st.one_of(*STRATEGIES.values()), texts, values)
def test_a_message_is_as_its_schema_says(notice: Notice, name: str, value: Any) -> None:
    # By its `room` an event of the type `result` is known from the answer to a call.
    assume(name != "room" or not isinstance(notice, notices.Called))
    message = json.loads(encode_notice(notice))
    CLOSED.validate(message)
    # A later server may write further fields.
    OPEN.validate({name: value} | message)
