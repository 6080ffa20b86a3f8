"""Any bytes give a command, or BadCommandError with one of its three codes."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import ErrorCode
from broker.protocol.commands import (
    BadCommandError,
    Chat,
    Command,
    CommandDecoder,
    History,
    Join,
    Leave,
    Ping,
    Presence,
    Publish,
    Refresh,
)

DECODER = CommandDecoder()
CODES = {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE}
COMMANDS: dict[str, type[Command]] = {
    "chat": Chat,
    "publish": Publish,
    "ping": Ping,
    "join": Join,
    "leave": Leave,
    "presence": Presence,
    "history": History,
    "refresh": Refresh,
}

numbers = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400, 0, -0.0, 1e308])
)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=20) | st.sampled_from(["x" * 128, "x" * 129])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
sinces = st.fixed_dictionaries({}, optional={"offset": values, "epoch": values}) | values
field_names = st.sampled_from(
    ["type", "id", "text", "room", "event", "data", "ephemeral", "since", "limit", "reverse", "token", "more"]
)
types = st.sampled_from([*COMMANDS, "dance", ""]) | values
# Pairs, so that a field may come twice.
messages = st.lists(
    st.tuples(st.just("type"), types) | st.tuples(st.just("since"), sinces) | st.tuples(field_names, values),
    max_size=8,
)


def written(pairs: list[tuple[str, Any]]) -> str:
    # NaN and Infinity are written as such, which is no JSON; lone surrogates as escapes.
    return "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"


def check(text: str | bytes) -> Command | BadCommandError:
    try:
        command = DECODER.decode(text)
    except BadCommandError as bad:
        return checked(bad)
    assert type(command) in COMMANDS.values()
    assert is_id(command.id)
    return command


def same_kind(one: object, other: object) -> bool:
    return type(one) is type(other)


def checked(bad: BadCommandError) -> BadCommandError:
    assert bad.refused.code in CODES
    assert bad.refused.message
    assert bad.refused.retry_after_ms is None
    assert is_id(bad.request_id)
    return bad


def is_id(request_id: object) -> bool:
    if isinstance(request_id, str):
        return len(request_id) <= 128
    return request_id is None or (type(request_id) is int and -(2**63) <= request_id < 2**63)


@settings(max_examples=300)
@given(st.text(alphabet=st.characters()) | st.binary() | st.text(alphabet='{}[]":,\\ud80typeid0123.-e \n'))
@example('{"type":"chat","text":"\ud800"}')
@example(b'{"type":"chat","text":"\xed\xa0\x80"}')
def test_any_text_or_bytes(text: str | bytes) -> None:
    check(text)


@settings(max_examples=400)
@given(messages)
def test_any_object_of_our_fields(pairs: list[tuple[str, Any]]) -> None:
    text = written(pairs)
    fields = dict(pairs)
    told = check(text)
    assert same_kind(told, check(text.encode()))
    if not isinstance(told, BadCommandError):
        assert type(told) is COMMANDS[fields["type"]]
        assert told.id == fields.get("id")
        return
    if told.refused.code is ErrorCode.UNKNOWN_TYPE:
        assert fields["type"] not in COMMANDS
    if told.refused.code is not ErrorCode.INVALID_JSON and is_id(fields.get("id")):
        assert told.request_id == fields.get("id")


@settings(max_examples=300)
@given(st.data())
def test_a_good_message_with_one_byte_changed(data: st.DataObject) -> None:
    good = data.draw(
        st.sampled_from(
            [
                b'{"type":"chat","text":"hi \xc3\xa4","room":"den","id":1}',
                b'{"type":"publish","event":"e","data":{"a":[1,"\\u00e4"]},"ephemeral":true,"id":"x"}',
                b'{"type":"history","since":{"offset":1,"epoch":"e"},"limit":3,"reverse":false}',
            ]
        )
    )
    place = data.draw(st.integers(0, len(good) - 1))
    check(good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :])


@given(values, st.booleans())
def test_the_data_of_a_publish_is_byte_for_byte_as_written(value: Any, ephemeral: bool) -> None:
    told = check(written([("type", "publish"), ("event", "e"), ("data", value), ("ephemeral", ephemeral)]))
    if isinstance(told, Publish):
        assert bytes(told.data).decode() == json.dumps(value)
        assert told.ephemeral is ephemeral
    else:
        assert isinstance(told, BadCommandError)
        assert told.refused.code is ErrorCode.INVALID_JSON
