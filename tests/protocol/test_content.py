"""The content of events by their publisher, and the types that an application may not use."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import ErrorCode, Refused
from broker.model import NO_HEADER, Draft, EventHeader
from broker.protocol.commands import COMMAND_TYPES
from broker.protocol.content import (
    NATIVE_TYPES,
    PLACED_FIELDS,
    chat_content,
    custom_content,
    notifier_content,
    read_header,
)
from broker.protocol.messages import MESSAGE_TYPES
from tests.support.drafts import drafts

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


@given(texts, texts, st.integers(1, 20))
@example("ann", "\U0001f3ad" * 6, 5)
def test_a_chat_text_is_cut_to_so_many_characters_and_says_so(user_id: str, text: str, most: int) -> None:
    said = json.loads(chat_content(user_id, text, most))
    expected: dict[str, object] = {"type": "chat", "user_id": user_id, "text": text[:most]}
    if len(text) > most:
        expected["truncated"] = True
    assert said == expected


def test_the_limit_of_a_text_is_its_last_character_that_passes() -> None:
    assert json.loads(chat_content("ann", "a" * 500, 500))["text"] == "a" * 500
    assert "truncated" not in json.loads(chat_content("ann", "a" * 500, 500))
    cut = json.loads(chat_content("ann", "a" * 501, 500))
    assert (len(cut["text"]), cut["truncated"]) == (500, True)


@given(texts, texts, values)
def test_a_custom_event_carries_its_data_as_written(user_id: str, event: str, data: Any) -> None:
    written = json.dumps(data, indent=1).encode()
    content = custom_content(user_id, event, msgspec.Raw(written))
    assert written in content
    assert json.loads(content) == {"type": "event", "event": event, "user_id": user_id, "data": data}


@given(drafts())
def test_the_header_that_is_derived_from_content_is_the_one_it_was_published_with(draft: Draft) -> None:
    assert read_header(draft.content) == draft.header


@given(
    st.binary()
    | st.text(alphabet='{}[]":,\\u0type123chatevnusr_d \n').map(str.encode)
    | values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(
        st.sampled_from(["type", "event", "user_id", "text", "data"]),
        st.sampled_from(["chat", "event", "order", 3, None, [], {}]),
    ).map(lambda fields: json.dumps(fields).encode())
)
@example(b'{"type":"\\ud800"}')
@example(b'{"type":"chat","user_id":"\\ud800","text":""}')
@example(b'{"type":"\xff"}')
@example(b'{"a":' * 100_000)
@example(b'{"a":%b,"type":"order"}' % (b"[" * 100_000 + b"]" * 100_000))
def test_content_of_unknown_origin_has_a_header_or_none_and_is_no_error(content: bytes) -> None:
    header = read_header(content)
    if header.type not in {"chat", "event"}:
        assert header == EventHeader(header.type)
    if header != NO_HEADER:
        assert json.loads(content)["type"] == header.type


def refusal(message: bytes) -> tuple[ErrorCode, str]:
    with pytest.raises(Refused) as caught:
        notifier_content(message)
    with pytest.raises(Refused) as again:
        notifier_content(msgspec.Raw(message))
    assert str(caught.value) == str(again.value)
    assert caught.value.retry_after_ms is None
    return caught.value.code, caught.value.message


@given(texts.filter(lambda kind: kind and kind not in NATIVE_TYPES), st.dictionaries(texts, values))
def test_a_notifiers_object_is_passed_on_but_for_the_fields_of_its_place(
    kind: str, fields: dict[str, Any]
) -> None:
    message = fields | dict.fromkeys(PLACED_FIELDS, "mine") | {"type": kind}
    kept = {name: value for name, value in message.items() if name not in PLACED_FIELDS}
    content, header = notifier_content(json.dumps(message).encode())
    assert json.loads(content) == kept
    assert header == EventHeader(kind)


def test_of_a_notifiers_field_written_twice_the_last_counts() -> None:
    content, header = notifier_content(b'{"type":"chat","a":1,"type":"order","a":2}')
    assert (content, header) == (b'{"type":"order","a":2}', EventHeader("order"))


@pytest.mark.parametrize("kind", sorted(NATIVE_TYPES))
def test_a_notifier_may_not_speak_for_the_protocol(kind: str) -> None:
    code, message = refusal(json.dumps({"type": kind}).encode())
    assert code is ErrorCode.INVALID_MESSAGE
    assert message == f"type: a name of your own; '{kind}' has a meaning in the protocol"


def test_every_type_of_the_contract_is_reserved() -> None:
    asked = {"chat", "publish", "ping", "join", "leave", "presence", "set_state", "history", "refresh"}
    answered = {"ack", "pong", "joined", "left", "refreshed", "error", "event"}
    told = {"user_joined", "user_left", "presence_update", "presence_changed", "gap", "withheld", "reconnect"}
    assert asked | answered | told == NATIVE_TYPES


@pytest.mark.parametrize("kind", ["call", "result"])
def test_the_types_that_services_used_before_the_protocol_stay_theirs(kind: str) -> None:
    assert kind in {*COMMAND_TYPES, *MESSAGE_TYPES}
    content, header = notifier_content(
        json.dumps({"type": kind, "id": 1, "data": 2, "room": "mine"}).encode()
    )
    assert json.loads(content) == {"type": kind, "id": 1, "data": 2}
    assert header == EventHeader(kind)


@pytest.mark.parametrize("message", [b'{"ty\\u0070e":"chat"}', b'{"type":"c\\u0068at"}'])
def test_a_reserved_type_cannot_be_smuggled_in_by_escapes(message: bytes) -> None:
    assert refusal(message)[0] is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"[]", "message: one JSON object"),
        (b"null", "message: one JSON object"),
        (b'"order"', "message: one JSON object"),
        (b"{}", "type: a string"),
        (b'{"type":null}', "type: a string"),
        (b'{"type":3}', "type: a string"),
        (b'{"type":["order"]}', "type: a string"),
        (b'{"type":""}', "type: not empty"),
    ],
)
def test_a_notifiers_message_is_an_object_with_a_type(message: bytes, told: str) -> None:
    assert refusal(message) == (ErrorCode.INVALID_MESSAGE, told)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"order",
        b'{"type":"order"} x',
        b'{"type":"order","a":NaN}',
        b'{"type":"order","a":"\t"}',
        b'{"type":"order","a":"\xff"}',
        b'{"type":"order","\xff":1}',
        b'{"type":"\xff"}',
        b'{"type":"order","room":"\xff"}',
        b"\xff",
        b'{"type":"order","a":%b}' % (b"[" * 100_000),
    ],
)
def test_a_notifiers_message_that_is_no_json_is_refused(message: bytes) -> None:
    assert refusal(message) == (ErrorCode.INVALID_JSON, "Invalid JSON")


@settings(max_examples=300)
@given(st.binary() | st.text(alphabet='{}[]":,\\u0type123 \n').map(str.encode))
def test_any_message_of_a_service_is_refused_or_becomes_readable_content(message: bytes) -> None:
    try:
        content, header = notifier_content(message)
    except Refused as refused:
        assert refused.code in {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE}  # noqa: PT017
    else:
        assert json.loads(content.decode())["type"] not in NATIVE_TYPES
        assert read_header(content) == header
