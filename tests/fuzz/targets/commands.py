"""Commands of clients: any bytes are one command, or one refusal, and the same as text; Python's own parser agrees."""

import json
from typing import Any

import msgspec

from broker.errors import ErrorCode, Refused
from broker.protocol.commands import BadCommandError, Command, CommandDecoder, Publish, SetState
from broker.protocol.content import custom_content

_DECODER = CommandDecoder()
_CODES = {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE}

SEEDS = (
    b'{"type":"chat","text":"hi \xc3\xa4","room":"den","id":1,"tags":{"a":"b"},"echo":false}',
    b'{"type":"publish","event":"e","data":{"a":[1,2.5,"\\u00e4\\ud83d\\ude00"]},"ephemeral":true,"id":"x"}',
    b'{"type":"history","since":{"offset":1,"epoch":"e"},"limit":3,"reverse":false}',
    b'{"type":"join","room":"den","last":2,"presence":"count","tags":{"a":["b"]}}',
    b'{"type":"call","method":"m","data":null}{"type":"ping"}',
    b'{"type":"set_state","state":[[[[]]]],"room":"\\ud800"}',
    b'{"type":"refresh","token":"a.b.c"} ',
    b'{"type":"presence","by":"connection"}',
    b'{"type":"leave"}',
    b'{"id":12345678901234567890,"type":"dance","data":1e999}',
    b'{"type":"publish","event":"e","data":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"type":"chat","type":"ping","text":NaN,"id":-0}',
)


def check(data: bytes) -> None:
    """Decode one message."""
    decoded = _decode(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert isinstance(decoded, BadCommandError), "what is no UTF-8 is no command"
        return
    same = _decode(text)
    if isinstance(decoded, BadCommandError):
        assert isinstance(same, BadCommandError)
        assert (same.refused.code, same.refused.message) == (decoded.refused.code, decoded.refused.message)
        assert same.request_id == decoded.request_id
        return
    assert same == decoded
    _compare(decoded, json.loads(text, parse_constant=_refuse))
    assert _decode(msgspec.json.encode(decoded)) == decoded
    if isinstance(decoded, Publish):
        _check_content(decoded)


def _decode(message: str | bytes) -> Command | BadCommandError:
    try:
        return _DECODER.decode(message)
    except BadCommandError as bad:
        refusal = bad
    assert refusal.refused.code in _CODES
    # It is sent to the client.
    msgspec.json.encode((refusal.refused.message, refusal.request_id))
    return refusal


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _compare(command: Command, fields: dict[str, Any]) -> None:
    """`fields` are as another parser reads them; of a field that is repeated, the last counts for both."""
    assert fields["type"] == command.__struct_config__.tag
    assert fields.get("id") == command.id
    for name in ("text", "room", "event", "method", "token", "limit", "last", "tags"):
        if name in fields and hasattr(command, name):
            assert getattr(command, name) == fields[name], name
    if isinstance(command, Publish):
        assert json.loads(bytes(command.data)) == fields["data"]
    if isinstance(command, SetState):
        assert json.loads(bytes(command.state)) == fields["state"]


def _check_content(publish: Publish) -> None:
    """What is published can be read by every client, or is refused."""
    try:
        content = custom_content("ann", publish.event, publish.data, tags=publish.tags)
    except Refused:
        return
    event = json.loads(content, parse_constant=_refuse)
    assert event["data"] == json.loads(bytes(publish.data))
    assert (event["user_id"], event["event"]) == ("ann", publish.event)
    msgspec.json.decode(content)
