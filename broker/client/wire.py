"""Encoding and decoding of messages. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from broker.client.effects import Message
from broker.client.errors import NotSentError
from broker.portable_json import Member, elements, members

_BYTES = (bytes, bytearray, memoryview)


def write_message(message: Mapping[str, Any]) -> str:
    """Encode a message as JSON, with null for NaN and infinities; the server checks the rest.

    :raises NotSentError: if it has no JSON form, holds a string that is no Unicode text (half of a surrogate pair, as
        in names of files) or bytes, which msgspec would write as base64, or is nested too deep.
    """
    return encode_message(message).decode()


def encode_message(message: object) -> bytes:
    """Return a value as JSON in UTF-8; see `write_message`."""
    try:
        has_bytes = _holds_bytes(msgspec.to_builtins(message, builtin_types=_BYTES))
        text = b"" if has_bytes else msgspec.json.encode(message)
    except Exception as error:  # the application's own values may raise what they like
        raise NotSentError(f"message: {error}") from error
    if has_bytes:
        raise NotSentError(
            "message: holds bytes, which have no JSON form: decode them, or encode them as text"
        )
    return text


def _holds_bytes(value: object) -> bool:
    match value:
        case dict():
            return any(map(_holds_bytes, value)) or any(map(_holds_bytes, value.values()))
        case list() | tuple():
            return any(map(_holds_bytes, value))
        case _:
            return isinstance(value, _BYTES)


def read_message(text: str) -> Message | None:
    """Decode a message of the server; None if it is unreadable.

    An unreadable event that is stored becomes a `gap` in its place, also within `joined` and `history`.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        fields = {member.key: member for member in members(text)}
    if _read(fields, "type") not in {"joined", "history"} or '"messages"' not in fields:
        return _gap_of(fields)
    message = {key[1:-1]: _read(fields, key[1:-1]) for key in fields if key != '"messages"'}
    events = [_read_event(element) for element in elements(fields['"messages"'].value)]
    return message | {"messages": [event for event in events if event is not None]}


def _read_event(text: str) -> Message | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _gap_of({member.key: member for member in members(text)})


def _gap_of(fields: Mapping[str, Member]) -> Message | None:
    """Return the gap for an unreadable event, None if it is not known to be stored."""
    room, offset, epoch = _read(fields, "room"), _read(fields, "offset"), _read(fields, "epoch")
    if not isinstance(room, str) or not isinstance(offset, int) or not isinstance(epoch, str):
        return None
    return {"type": "gap", "room": room, "from": offset, "to": offset, "epoch": epoch}


def _read(fields: Mapping[str, Member], name: str) -> object:
    try:
        return msgspec.json.decode(fields[f'"{name}"'].value)
    except (KeyError, msgspec.DecodeError, RecursionError, UnicodeError):
        return None
