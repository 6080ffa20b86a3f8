"""The content of an event: one JSON object, encoded once when it is published and spliced into every frame.

Content lacks `room`, `offset`, `epoch` and `time`, which are known only once the engine has stored the event. Its
header is made where the content is made, so that nobody has to parse the content for it.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.errors import ErrorCode, Refused
from broker.model import NO_HEADER, EventHeader, Excluded, TagPairs
from broker.portable_json import decode, explain, has_number_out_of_range
from broker.protocol.commands import COMMAND_TYPES
from broker.protocol.fields import Epoch, Info, Offset, RoomName, Tags, UserId
from broker.protocol.messages import MESSAGE_TYPES


class Placement(msgspec.Struct, frozen=True):
    """The fields that an event gets where it is encoded for a recipient."""

    room: RoomName
    time: Annotated[
        int, Meta(description="Time of the event in Unix milliseconds, by the server's wall clock.")
    ]
    offset: Offset | None = None
    epoch: Epoch | None = None


PLACED_FIELDS = frozenset(Placement.__struct_fields__)


class ChatEvent(msgspec.Struct, tag_field="type", tag="chat", omit_defaults=True):
    """A text that a client published."""

    user_id: UserId
    text: Annotated[str, Meta(description="At most `limits.text_characters` (500) characters.")]
    truncated: Annotated[bool, Meta(description="Whether the end of the text was cut.")] = False
    info: Info | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class ClientEvent(msgspec.Struct, tag_field="type", tag="event"):
    """An event that a client published under a name; an ephemeral one has no position."""

    event: Annotated[str, Meta(title="EventName")]
    user_id: UserId
    data: Annotated[msgspec.Raw, Meta(description="Any JSON value.")]
    info: Info | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class _Typed(msgspec.Struct):
    type: str


_CLIENT_TYPES = frozenset({"chat", "event"})

_LEFT_TO_SERVICES = frozenset({"call", "result"})
"""Types that services used before the protocol had them; an event of such a type is known by its `room`."""

NATIVE_TYPES: frozenset[str] = frozenset((*COMMAND_TYPES, *MESSAGE_TYPES, *_CLIENT_TYPES)) - _LEFT_TO_SERVICES
"""Message types of the protocol, which an application's message may not use."""

_encode = msgspec.json.encode
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_typed = msgspec.json.Decoder(_Typed)
_of_clients: msgspec.json.Decoder[ChatEvent | ClientEvent] = msgspec.json.Decoder(ChatEvent | ClientEvent)


def chat_header(user_id: str, connection: str | None = None) -> EventHeader:
    """Return the header of all chats of a connection."""
    return EventHeader("chat", None, user_id, connection)


def custom_header(user_id: str, event: str, connection: str | None = None) -> EventHeader:
    """Return the header of a client's own event."""
    return EventHeader("event", event, user_id, connection)


def read_header(content: bytes) -> EventHeader:
    """Return the header of an event that was stored without one: as published, but with no connection and no tags.

    It is NO_HEADER if `content` was made by no function of this module.
    """
    try:
        kind = _typed.decode(content).type
        if kind not in _CLIENT_TYPES:
            return EventHeader(kind)
        event = _of_clients.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return NO_HEADER
    if isinstance(event, ChatEvent):
        return chat_header(event.user_id)
    return custom_header(event.user_id, event.event)


def chat_content(
    user_id: str,
    text: str,
    max_characters: int,
    info: bytes | None = None,
    tags: Mapping[str, str] | None = None,
) -> bytes:
    """Return the content of a chat event; a longer text is cut, and the event marked as `truncated`.

    `info` is the user's, as JSON.
    """
    if len(text) > max_characters or info is not None or tags:
        shown = UNSET if info is None else msgspec.Raw(info)
        is_cut = len(text) > max_characters
        return _encode(ChatEvent(user_id, text[:max_characters], is_cut, shown, _shown_tags(tags)))
    return _encode(ChatEvent(user_id, text))


def custom_content(
    user_id: str,
    event: str,
    data: msgspec.Raw,
    info: bytes | None = None,
    tags: Mapping[str, str] | None = None,
) -> bytes:
    """Return the content of a client's own event; `data` is passed on byte for byte, as is `info`, the user's.

    :raises NotPortable: if a number of `data` is out of range.
    """
    check_numbers("data", data)
    if info is not None or tags:
        shown = UNSET if info is None else msgspec.Raw(info)
        return _encode(ClientEvent(event, user_id, data, shown, _shown_tags(tags)))
    return _encode(ClientEvent(event, user_id, data))


def _shown_tags(tags: Mapping[str, str] | None) -> dict[str, str] | UnsetType:
    return dict(tags) if tags else UNSET


def choosing_header(
    header: EventHeader, tags: Mapping[str, str] | None, excluded: Excluded | None = None
) -> EventHeader:
    """Return a header with the tags of an event, and the recipients that it is withheld from."""
    pairs: TagPairs = tuple(tags.items()) if tags else ()
    return msgspec.structs.replace(header, tags=pairs, excluded=excluded)


def check_numbers(field: str, value: msgspec.Raw) -> None:
    """Check that the numbers in a field of a command are portable; all else was checked when it was decoded.

    :raises NotPortable: if one is out of range.
    """
    written = bytes(value)
    if has_number_out_of_range(written):
        raise explain(f'{{"{field}":{written.decode()}}}')


def notifier_content(message: bytes | msgspec.Raw) -> tuple[bytes, EventHeader]:
    """Return the content and the header of an application's message.

    :raises NotPortable: if some clients could not read it.
    :raises Refused: `invalid_json` or `invalid_message`, if it is not a JSON object with a `type` of its own.
    """
    written = bytes(message)
    try:
        fields = decode(written, _objects.decode)
    except msgspec.ValidationError:
        raise Refused(ErrorCode.INVALID_MESSAGE, "message: one JSON object") from None
    if has_number_out_of_range(written):
        raise explain(written.decode())
    try:
        kind = msgspec.json.decode(fields.get("type", b"null"), type=str)
    except msgspec.ValidationError:
        raise Refused(ErrorCode.INVALID_MESSAGE, "type: a string") from None
    if not kind or kind in NATIVE_TYPES:
        raise Refused(
            ErrorCode.INVALID_MESSAGE,
            f"type: a name of your own; {kind!r} has a meaning in the protocol"
            if kind
            else "type: not empty",
        )
    content = _encode({name: raw for name, raw in fields.items() if name not in PLACED_FIELDS})
    return content, EventHeader(kind)
