"""Each message that the codec can write is as its JSON Schema says."""

import json
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from broker import notices
from broker.errors import ErrorCode, Refused
from broker.model import Event, Position
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
chats = st.builds(chat_content, names, texts, st.just(5))
custom = st.builds(
    lambda user, name, data: custom_content(user, name, json.dumps(data).encode()), names, names, values
)
services = st.builds(
    lambda fields, kind: notifier_content(json.dumps(fields | {"type": kind}).encode())[0],
    st.dictionaries(texts, values),
    texts.filter(lambda kind: kind and kind not in NATIVE_TYPES),
)
stored = st.builds(Event, chats | custom | services, sizes, st.integers(1, 2**63 - 1))
ephemeral = st.builds(Event, custom | services, sizes, st.none())
pages = st.lists(stored, max_size=3).map(tuple)
users = st.lists(names, max_size=3).map(tuple)
refusals = st.builds(Refused, st.sampled_from(ErrorCode), texts, st.none() | sizes)
times = st.none() | st.floats(0, 1e12)

STRATEGIES: dict[Any, st.SearchStrategy[Notice]] = {
    notices.RoomEvent: st.builds(
        notices.RoomEvent, rooms, positions.map(lambda it: it.epoch), stored | ephemeral
    ),
    notices.UserJoined: st.builds(notices.UserJoined, rooms, names, sizes),
    notices.UserLeft: st.builds(notices.UserLeft, rooms, names, sizes),
    notices.PresenceChanged: st.builds(notices.PresenceChanged, rooms, users, users, sizes),
    notices.Joined: st.builds(notices.Joined, rooms, sizes, positions, st.booleans(), pages, ids),
    notices.Left: st.builds(notices.Left, rooms, ids),
    notices.Acknowledged: st.builds(notices.Acknowledged, rooms, st.none() | positions, ids),
    notices.PresenceList: st.builds(
        notices.PresenceList, rooms, sizes, st.lists(st.tuples(names, sizes)).map(tuple), ids
    ),
    notices.HistoryPage: st.builds(notices.HistoryPage, rooms, pages, positions, ids),
    notices.Gap: st.builds(notices.Gap, rooms, sizes, sizes),
    notices.Failed: st.builds(notices.Failed, refusals, ids),
    notices.Pong: st.builds(notices.Pong, ids),
    notices.Refreshed: st.builds(notices.Refreshed, times, times, ids),
    notices.Reconnect: st.builds(notices.Reconnect, sizes),
}


def test_there_is_a_strategy_for_every_notice() -> None:
    assert set(STRATEGIES) == set(get_args(Notice))


@given(st.one_of(*STRATEGIES.values()), texts, values)
def test_a_message_is_as_its_schema_says(notice: Notice, name: str, value: Any) -> None:
    message = json.loads(encode_notice(notice))
    CLOSED.validate(message)
    # A later server may write further fields.
    OPEN.validate({name: value} | message)
