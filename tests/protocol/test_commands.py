"""The messages of clients, their commands, and the refusals of invalid ones."""

import json
from typing import Any

import msgspec
import pytest

from broker.errors import ErrorCode
from broker.protocol import commands
from broker.protocol.commands import AnyCommand, BadCommandError, CommandDecoder, Since

SINCE = {"offset": 3, "epoch": "e1"}
TYPES = "chat, publish, call, ping, join, leave, presence, set_state, history, refresh"


@pytest.fixture
def decoder() -> CommandDecoder:
    return CommandDecoder()


def refusal(decoder: CommandDecoder, message: object) -> BadCommandError:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    with pytest.raises(BadCommandError) as caught:
        decoder.decode(text)
    return caught.value


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ({"type": "chat", "text": "hi"}, commands.Chat(text="hi")),
        ({"type": "chat", "text": "", "room": "den", "id": 7}, commands.Chat(text="", room="den", id=7)),
        ({"type": "chat", "text": "hi", "room": None, "id": None}, commands.Chat(text="hi")),
        ({"type": "call", "method": "m"}, commands.Call(method="m")),
        (
            {"type": "call", "method": "m", "room": "den", "id": "a"},
            commands.Call(method="m", room="den", id="a"),
        ),
        ({"type": "ping"}, commands.Ping()),
        ({"type": "ping", "id": "a"}, commands.Ping(id="a")),
        ({"type": "join", "room": "den"}, commands.Join(room="den")),
        (
            {"type": "join", "room": "den", "since": SINCE},
            commands.Join(room="den", since=Since(3, "e1")),
        ),
        ({"type": "leave"}, commands.Leave()),
        ({"type": "leave", "room": "den"}, commands.Leave(room="den")),
        ({"type": "presence", "room": "den"}, commands.Presence(room="den")),
        ({"type": "history"}, commands.History()),
        (
            {"type": "history", "room": "den", "since": SINCE, "limit": 5, "reverse": True},
            commands.History(room="den", since=Since(3, "e1"), limit=5, reverse=True),
        ),
        ({"type": "refresh", "token": "t", "id": 0}, commands.Refresh(token="t", id=0)),
    ],
)
def test_a_command_is_decoded_with_its_fields(
    decoder: CommandDecoder, message: dict[str, object], command: AnyCommand
) -> None:
    assert decoder.decode(json.dumps(message)) == command
    assert decoder.decode(json.dumps(message).encode()) == command
    assert decoder.decode(json.dumps(message | {"more": [1, {"x": None}]})) == command


@pytest.mark.parametrize("data", [None, True, 0, -1.5, "s", [], [1, [2]], {"a": {"b": []}}])
def test_the_data_of_a_publish_may_be_any_json_value(decoder: CommandDecoder, data: object) -> None:
    command = decoder.decode(json.dumps({"type": "publish", "event": "e", "data": data, "ephemeral": True}))
    assert isinstance(command, commands.Publish)
    assert (command.event, command.ephemeral, command.room) == ("e", True, None)
    assert json.loads(bytes(command.data)) == data


@pytest.mark.parametrize("request_id", ["", "x" * 128, "\u00e4", 0, -(2**63), 2**63 - 1])
def test_an_id_is_any_short_string_or_64_bit_integer(decoder: CommandDecoder, request_id: str | int) -> None:
    assert decoder.decode(json.dumps({"type": "ping", "id": request_id})).id == request_id
    assert refusal(decoder, {"type": "dance", "id": request_id}).request_id == request_id
    assert refusal(decoder, {"id": request_id, "type": "chat"}).request_id == request_id


@pytest.mark.parametrize(
    "written",
    ["true", "false", "1.5", "[]", "{}", f'"{"x" * 129}"', f"{2**63}", f"{-(2**63) - 1}", "1" * 5000],
)
def test_an_invalid_id_is_not_sent_back(decoder: CommandDecoder, written: str) -> None:
    bad = refusal(decoder, f'{{"type":"chat","text":"hi","id":{written}}}')
    assert bad.refused.code is ErrorCode.INVALID_MESSAGE
    assert bad.refused.message.startswith("id: ")
    assert bad.request_id is None
    bad = refusal(decoder, f'{{"type":"dance","id":{written}}}')
    assert (bad.refused.code, bad.request_id) == (ErrorCode.UNKNOWN_TYPE, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "chat"}, "object missing required field `text`"),
        ({"type": "chat", "text": 3}, "text: expected `str`, got `int`"),
        ({"type": "chat", "text": None}, "text: expected `str`, got `null`"),
        ({"type": "chat", "text": "t", "room": 1}, "room: expected `str | null`, got `int`"),
        ({"type": "join"}, "object missing required field `room`"),
        ({"type": "join", "room": None}, "room: expected `str`, got `null`"),
        ({"type": "join", "room": "r", "since": 3}, "since: expected `object | null`, got `int`"),
        ({"type": "join", "room": "r", "since": {}}, "since: object missing required field `offset`"),
        (
            {"type": "join", "room": "r", "since": {"offset": -1, "epoch": "e"}},
            "since.offset: expected `int` >= 0",
        ),
        (
            {"type": "join", "room": "r", "since": {"offset": 2**63, "epoch": "e"}},
            f"since.offset: expected `int` <= {2**63 - 1}",
        ),
        (
            {"type": "join", "room": "r", "since": {"offset": 1, "epoch": "e" * 65}},
            "since.epoch: expected `str` of length <= 64",
        ),
        ({"type": "publish", "data": 1}, "object missing required field `event`"),
        ({"type": "publish", "event": "e"}, "object missing required field `data`"),
        ({"type": "publish", "event": "", "data": 1}, "event: expected `str` of length >= 1"),
        ({"type": "publish", "event": "e" * 129, "data": 1}, "event: expected `str` of length <= 128"),
        (
            {"type": "publish", "event": "e", "data": 1, "ephemeral": 1},
            "ephemeral: expected `bool`, got `int`",
        ),
        ({"type": "history", "limit": 0}, "limit: expected `int` >= 1"),
        ({"type": "history", "limit": "9"}, "limit: expected `int | null`, got `str`"),
        ({"type": "history", "reverse": None}, "reverse: expected `bool`, got `null`"),
        ({"type": "refresh"}, "object missing required field `token`"),
        ({"type": "leave", "room": []}, "room: expected `str | null`, got `array`"),
        ({"type": "presence", "room": {}}, "room: expected `str | null`, got `object`"),
        ({"type": "presence", "by": "name"}, "by: invalid enum value 'name'"),
        ({"type": "join", "room": "r", "presence": 1}, "presence: expected `str | null`, got `int`"),
        ({"type": "set_state"}, "object missing required field `state`"),
        ({"type": "call", "data": 1}, "object missing required field `method`"),
        ({"type": "call", "method": ""}, "method: expected `str` of length >= 1"),
        ({"type": "call", "method": "x" * 129}, "method: expected `str` of length <= 128"),
        ({"type": "call", "method": "m", "room": 1}, "room: expected `str | null`, got `int`"),
    ],
)
def test_an_invalid_field_is_named_with_its_rule(
    decoder: CommandDecoder, fields: dict[str, object], message: str
) -> None:
    bad = refusal(decoder, fields | {"id": "mine"})
    assert bad.refused.code is ErrorCode.INVALID_MESSAGE
    assert bad.refused.message == message
    assert bad.request_id == "mine"
    assert str(bad) == f"invalid_message: {message}"


@pytest.mark.parametrize("kind", [None, 3, True, [], {}, 10**30])
def test_a_type_that_is_no_string_is_an_invalid_message(decoder: CommandDecoder, kind: Any) -> None:
    for message in ({"type": kind, "id": 1}, {"id": 1}):
        bad = refusal(decoder, message)
        assert bad.refused.code is ErrorCode.INVALID_MESSAGE
        assert bad.refused.message == f"type: a string, one of {TYPES}"
        assert bad.request_id == 1


@pytest.mark.parametrize("kind", ["", "Chat", "chat ", "event", "joined", "chat, publish", "x" * 10_000])
def test_a_type_of_no_command_is_unknown(decoder: CommandDecoder, kind: str) -> None:
    bad = refusal(decoder, {"type": kind, "id": 1})
    assert bad.refused.code is ErrorCode.UNKNOWN_TYPE
    assert bad.refused.message == f"type: one of {TYPES}"
    assert bad.request_id == 1


@pytest.mark.parametrize("text", ["[]", "3", '"chat"', "null", "true", '[{"type":"ping"}]'])
def test_json_that_is_no_object_is_an_invalid_message(decoder: CommandDecoder, text: str) -> None:
    bad = refusal(decoder, text)
    assert bad.refused.code is ErrorCode.INVALID_MESSAGE
    assert bad.refused.message == "a message is one JSON object"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "hello",
        '{"type":"ping"',
        '{"type":"ping"}}',
        '{"type":"ping"} {"type":"ping"}',
        "{'type':'ping'}",
        '{"type":"ping",}',
        '{"type":"chat","text":NaN}',
        '{"type":"chat","text":"\ud800"}',
        '{"type":"chat","text":"\t"}',
        '{"type":"publish","event":"e","data":NaN}',
        '{"type":"publish","event":"e","data":01}',
        '{"type":"chat","text":3} x',
        '\ufeff{"type":"ping"}',
        b'{"type":"chat","text":"\xff"}',
        b'{"type":"chat","text":"hi","other":"\xff"}',
        b'{"type":"publish","event":"e","data":"\xff"}',
        b'{"type":"chat","text":3,"other":"\xff"}',
        b'{"type":"\xed\xa0\x80"}',
        b"\xff",
    ],
)
def test_text_that_is_not_json_is_invalid_json(decoder: CommandDecoder, text: str | bytes) -> None:
    bad = refusal(decoder, text)
    assert bad.refused.code is ErrorCode.INVALID_JSON
    assert bad.refused.message == "Invalid JSON"
    assert bad.request_id is None


@pytest.mark.parametrize(
    ("text", "request_id", "field"),
    [
        ('{"type":"chat","text":"\\ud800","id":7}', 7, "text"),
        ('{"id":"a","type":"publish","event":"e","data":["\\udfff"]}', "a", "data"),
        ('{"id":1,"type":"ping","id":2,"other":{"\\udc00":1}}', 2, "other"),
        ('{"type":"chat","text":3,"id":4,"other":"\\ud800"}', 4, "other"),
        ('{"type":"dance","id":5,"other":"\\ud800"}', 5, "other"),
        ('{"type":"ping","id":"\\ud800"}', None, "id"),
        ('{"type":"ping","id":1.5,"other":"\\ud800"}', None, "other"),
        ('{"type":"\\ud800","id":-1}', -1, "type"),
        ('{"\\ud800":"id","type":"ping","id":"\\ud83d\\udca9"}', "\U0001f4a9", r"\ufffd"),
    ],
)
def test_json_with_half_a_surrogate_pair_is_an_invalid_message_with_its_id(
    decoder: CommandDecoder, text: str, request_id: str | int | None, field: str
) -> None:
    for written in (text, text.encode()):
        bad = refusal(decoder, written)
        assert bad.refused.code is ErrorCode.INVALID_MESSAGE
        assert bad.refused.message.startswith(f"{field}: ")
        assert bad.request_id == request_id
        assert decoder.request_id(written) == request_id


@pytest.mark.parametrize("levels", [65, 1000, 30_000])
@pytest.mark.parametrize(
    ("frame", "request_id", "field"),
    [
        ('{"type":"chat","id":7,"text":%s}', 7, "text"),
        ('{"type":"publish","event":"e","data":%s,"id":"a"}', "a", "data"),
        ('{"type":"ping","other":{"id":3,"a":%s},"id":4}', 4, "other"),
        ('{"type":"ping","id":%s}', None, "id"),
        ('{"type":%s,"id":"x"}', "x", "type"),
    ],
)
def test_too_deep_nesting_is_an_invalid_message_with_its_id(
    decoder: CommandDecoder, levels: int, frame: str, request_id: str | int | None, field: str
) -> None:
    for nested in ("[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels):
        bad = refusal(decoder, frame % nested)
        assert (bad.refused.code, bad.request_id) == (ErrorCode.INVALID_MESSAGE, request_id)
        assert bad.refused.message == f"{field}: nested deeper than 64 levels"


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize(
    "frame",
    [
        "%s",
        '{"type":"chat","text":%s}',
        '{"type":"ping","id":%s}',
        '{"type":%s}',
        '{"type":"ping","other":%s}',
        '{"type":"publish","event":"e","data":%s}',
        '{"type":"join","room":"r","since":{"offset":%s}}',
    ],
)
def test_deep_nesting_is_refused_and_harms_nobody(decoder: CommandDecoder, depth: int, frame: str) -> None:
    for nested in ("[" * depth + "]" * depth, "[" * depth, '{"a":' * depth):
        bad = refusal(decoder, frame % nested)
        assert bad.refused.code in {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE}
    assert decoder.decode('{"type":"ping"}') == commands.Ping()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"chat","text":"a","text":"b"}', commands.Chat(text="b")),
        ('{"type":"ping","id":1,"id":2}', commands.Ping(id=2)),
        ('{"text":"a","type":"chat"}', commands.Chat(text="a")),
    ],
)
def test_of_a_field_written_twice_the_last_counts(
    decoder: CommandDecoder, text: str, expected: AnyCommand
) -> None:
    assert decoder.decode(text) == expected


def test_a_message_of_two_types_is_refused(decoder: CommandDecoder) -> None:
    bad = refusal(decoder, '{"type":"chat","text":"a","type":"ping","id":4}')
    assert bad.refused.code is ErrorCode.INVALID_MESSAGE
    assert bad.refused.message.startswith("type: ")
    assert bad.request_id == 4


def test_a_refusal_repeats_at_most_a_short_part_of_the_message(decoder: CommandDecoder) -> None:
    long = "x" * 50_000
    for message in ({"type": long}, {"type": "chat", "text": "t", "id": long}, {"type": "chat", long: 1}):
        assert len(msgspec.json.encode(refusal(decoder, message).refused.message)) < 500
