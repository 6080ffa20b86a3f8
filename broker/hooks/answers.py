"""The answer of a hook: allowed, with changes, or refused, with a reason. Pure."""

from typing import Literal

import attrs
import msgspec

from broker.errors import ErrorCode, GreenroomError, Refused
from broker.hooks.ask import ChatText, HookKind, Message, OwnEvent
from broker.model import check_room_name
from broker.portable_json import MAX_LEVELS, decode, has_number_out_of_range, is_deep
from broker.protocol.fields import Tags

MAX_REASON_CHARACTERS = 200
MAX_EVENT_CHARACTERS = 128
MAX_AUTO_JOIN = 256
DEFAULT_REASON = "refused by the application"
LAST_SECOND = 253_402_300_799.0
"""The last second of the year 9999: a later expiry is in milliseconds."""


class WrongAnswerError(GreenroomError):
    """An answer is none of the protocol; the text says why, and holds none of its values."""


@attrs.frozen
class Allowed:
    """The step is allowed, with what the answer adds or changes."""

    info: bytes | None = None
    """JSON that other members are shown instead of the info of the token."""
    auto_join: tuple[str, ...] = ()
    expires_at: float | None = None
    """Unix seconds."""
    message: Message | None = None
    """What is published instead; None for the message as it was."""
    data: bytes = b"null"
    """JSON that answers a call."""
    traceparent: str | None = None
    """The span of the question, where hooks are traced and it is sampled; no part of the answer."""


@attrs.frozen
class Denied:
    """The step is refused, with a reason for the client."""

    code: ErrorCode
    reason: str


_NOTHING = msgspec.Raw()


class _Answer(msgspec.Struct, frozen=True):
    allow: bool
    info: msgspec.Raw = _NOTHING
    auto_join: list[str] | None = None
    message: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING
    expires_at: float | None = None
    reason: str | None = None
    code: Literal["forbidden", "rate_limited", "unavailable"] | None = None


class _ChangedText(msgspec.Struct, frozen=True):
    text: str | None = None
    tags: Tags | None = None


class _ChangedEvent(msgspec.Struct, frozen=True):
    event: str | None = None
    data: msgspec.Raw = _NOTHING
    tags: Tags | None = None


_FIELDS = {
    HookKind.CONNECT: {"info", "auto_join", "expires_at"},
    HookKind.JOIN: set(),
    HookKind.PUBLISH: {"message"},
    HookKind.CALL: {"data"},
}
"""The optional fields of an answer that allows, by kind."""

_answers = msgspec.json.Decoder(_Answer)
_texts = msgspec.json.Decoder(_ChangedText)
_events = msgspec.json.Decoder(_ChangedEvent)


def parse_answer(
    body: bytes, kind: HookKind, message: Message | None = None, *, info_bytes: int
) -> Allowed | Denied:
    """Return the answer in `body`; `message` is what the client wants to publish.

    A null counts as a field that is left out, and unknown fields are passed over.

    :raises WrongAnswerError: for anything else.
    """
    try:
        # A message in an answer is one level deeper than on its own.
        answer = decode(body, _answers.decode, MAX_LEVELS + 1)
        if has_number_out_of_range(body):
            raise WrongAnswerError("a number that is neither a 64-bit integer nor in the range of a double")
    except msgspec.ValidationError as error:
        raise WrongAnswerError(str(error)) from None
    except Refused as refused:
        raise WrongAnswerError(refused.message) from None
    if not answer.allow:
        reason = (answer.reason or DEFAULT_REASON)[:MAX_REASON_CHARACTERS]
        return Denied(ErrorCode(answer.code or ErrorCode.FORBIDDEN), reason)
    for name in ("info", "auto_join", "expires_at", "message", "data"):
        if not _is_left_out(getattr(answer, name)) and name not in _FIELDS[kind]:
            raise WrongAnswerError(f"{name}: has no meaning in the answer to {kind}")
    return Allowed(
        _info(answer.info, info_bytes),
        _rooms(answer.auto_join or []),
        _expiry(answer.expires_at),
        _changed(message, answer.message),
        _result(answer.data),
    )


def _is_left_out(value: object) -> bool:
    return value is None or (isinstance(value, msgspec.Raw) and bytes(value) in {b"", b"null"})


def _info(value: msgspec.Raw, most_bytes: int) -> bytes | None:
    if _is_left_out(value):
        return None
    packed = msgspec.json.encode(msgspec.json.decode(value))
    if len(packed) > most_bytes:
        raise WrongAnswerError(f"info: at most {most_bytes} bytes of JSON (auth.info_bytes)")
    if is_deep(packed.decode(), MAX_LEVELS - 1):
        raise WrongAnswerError(f"info: nested deeper than {MAX_LEVELS - 1} levels")
    return packed


def _result(value: msgspec.Raw) -> bytes:
    if is_deep(bytes(value).decode(), MAX_LEVELS - 1):
        raise WrongAnswerError(f"data: nested deeper than {MAX_LEVELS - 1} levels")
    return bytes(value) or b"null"


def _rooms(names: list[str]) -> tuple[str, ...]:
    if len(names) > MAX_AUTO_JOIN:
        raise WrongAnswerError(f"auto_join: at most {MAX_AUTO_JOIN} names of rooms")
    try:
        return tuple(map(check_room_name, names))
    except Refused as refused:
        raise WrongAnswerError(f"auto_join: {refused.message}") from None


def _expiry(seconds: float | None) -> float | None:
    if seconds is not None and not 0 <= seconds <= LAST_SECOND:
        raise WrongAnswerError("expires_at: seconds since 1970; a larger number looks like milliseconds")
    return seconds


def _changed(message: Message | None, change: msgspec.Raw) -> Message | None:
    """Return the message that the answer puts in the place of the client's; its kind stays the same."""
    if _is_left_out(change):
        return None
    try:
        if isinstance(message, ChatText):
            return _changed_text(message, _texts.decode(change))
        assert message is not None, "only a publish is asked about with one"
        changed = _events.decode(change)
    except msgspec.ValidationError as error:
        raise WrongAnswerError(f"message: {error}") from None
    event = message.event if changed.event is None else changed.event
    if not 1 <= len(event) <= MAX_EVENT_CHARACTERS:
        raise WrongAnswerError(f"message: event has 1 to {MAX_EVENT_CHARACTERS} characters")
    # A null is data here, as it is in a publish.
    data = changed.data if bytes(changed.data) else message.data
    tags = message.tags if changed.tags is None else changed.tags
    return OwnEvent(event, data, message.ephemeral, tags, message.echo)


def _changed_text(message: ChatText, changed: _ChangedText) -> ChatText:
    if changed.text is None and changed.tags is None:
        raise WrongAnswerError("message: a chat has a text or tags")
    text = message.text if changed.text is None else changed.text
    return ChatText(text, message.tags if changed.tags is None else changed.tags, message.echo)
