"""Drafts as the messages that a room's code gets, and back. Pure."""

import msgspec

from broker.model import Draft
from broker.protocol.content import notifier_content
from broker.room_actors.values import Message, MessageKind

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

_CONTENT_FIELD = {MessageKind.CHAT: "text", MessageKind.EVENT: "data"}
"""The field of an event that its publisher wrote; of a service's message, it is the whole."""


def message_of(draft: Draft) -> Message:
    """Return the message that is to be published."""
    header = draft.header
    match header.type:
        case "chat":
            kind, name = MessageKind.CHAT, "chat"
        case "event":
            kind, name = MessageKind.EVENT, header.name or ""
        case other:
            kind, name = MessageKind.SERVICE, other
    content = msgspec.Raw(draft.content)
    if kind is not MessageKind.SERVICE:
        content = _objects.decode(draft.content)[_CONTENT_FIELD[kind]]
    return Message(kind, name, content, draft.ephemeral, dict(header.tags))


def draft_of(message: Message, before: Message, draft: Draft) -> Draft:
    """Return the draft with the content of `message`, which was `before`; all else but its key stays.

    :raises ValueError: if it cannot be the content of such an event.
    """
    if message is before or message.content == before.content:
        return msgspec.structs.replace(draft, key=None)
    written = bytes(message.content)
    if before.kind is MessageKind.SERVICE:
        content, header = notifier_content(written)
        header = msgspec.structs.replace(draft.header, type=header.type)
        return msgspec.structs.replace(draft, content=content, header=header, key=None)
    field = _CONTENT_FIELD[before.kind]
    if before.kind is MessageKind.CHAT and not isinstance(msgspec.json.decode(written), str):
        raise ValueError("the content of a chat is a text")
    # Checked as a service's message is, which must be readable for all clients.
    notifier_content(b'{"type":"checked","content":' + written + b"}")
    fields = _objects.decode(draft.content)
    fields[field] = msgspec.Raw(written)
    return msgspec.structs.replace(draft, content=msgspec.json.encode(fields), key=None)
