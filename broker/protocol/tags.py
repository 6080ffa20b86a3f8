"""Tags outside of commands: in the parameters of a query, and in the arguments of a program with rooms inside."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from broker.errors import ErrorCode, Refused
from broker.model import Excluded, TagFilter
from broker.portable_json import NO_TEXT, decode
from broker.protocol.commands import describe_mismatch, filter_of
from broker.protocol.fields import Excludable, Tags, WantedTags

T = TypeVar("T")

_tags: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(Tags)
_filters: msgspec.json.Decoder[dict[str, list[str]]] = msgspec.json.Decoder(WantedTags)


def parse_tags(text: str) -> dict[str, str]:
    """Return the tags of an event, given as the JSON object that a command has.

    :raises Refused: `invalid_message`, if it is none.
    """
    return _check("tags", partial(decode, text, _tags.decode))


def parse_filter(text: str) -> TagFilter | None:
    """Return the filter that is given as the JSON object that a join has; None if it is empty.

    :raises Refused: `invalid_message`, if it is none.
    """
    return filter_of(_check("tags", partial(decode, text, _filters.decode)))


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the tags that a program gives an event.

    :raises Refused: `invalid_message`, if they are too many or too long, or no strings of Unicode text.
    """
    return None if tags is None else _check("tags", partial(_convert, dict(tags), Tags))


def check_excluded(user_id: str | None, connection: str | None) -> Excluded | None:
    """Return the recipients that an event is withheld from; None if nobody is named.

    :raises Refused: `invalid_message`, if one cannot be a name.
    """
    if user_id is None and connection is None:
        return None
    for name, value in (("exclude_user", user_id), ("exclude_connection", connection)):
        if value is not None:
            check_excludable(name, value)
    return Excluded(connection, user_id)


def check_excludable(field: str, value: str) -> str:
    """Return the id of a user or of a connection, which was given as `field`.

    :raises Refused: `invalid_message`, if it cannot be one.
    """
    return _check(field, partial(_convert, value, Excludable))


def _convert(value: object, as_type: type[T]) -> T:
    converted = msgspec.convert(value, as_type)
    try:
        msgspec.json.encode(converted)
    except UnicodeEncodeError:
        raise msgspec.ValidationError(NO_TEXT) from None
    return converted


def _check(name: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except msgspec.ValidationError as error:
        mismatch = describe_mismatch(error)
        separator = "" if mismatch.startswith("[") else ": "
        raise Refused(ErrorCode.INVALID_MESSAGE, f"{name}{separator}{mismatch}") from None
    except Refused as refused:
        raise Refused(ErrorCode.INVALID_MESSAGE, f"{name}: {refused.message}") from None
