"""Request bodies and query strings: read within limits, and refused with the reason."""

from contextlib import suppress
from functools import partial
from typing import TypeVar

import msgspec
import trio
from msgspec import UNSET, UnsetType

from broker.config.keys import nearest
from broker.config.settings import HttpSettings
from broker.errors import ErrorCode, Refused
from broker.http.exchange import this_request
from broker.http.problems import BODY_TOO_SLOW, Problem, ProblemError
from broker.notices import RequestId
from broker.portable_json import MAX_BRACKET_RUNS, MAX_LEVELS, decode, members
from broker.protocol.commands import describe_mismatch
from broker.protocol.fields import Id

S = TypeVar("S", bound=msgspec.Struct)

JSON_TYPES = frozenset({"", "application/json"})
NDJSON_TYPES = frozenset(
    {"", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"}
)

_ids: msgspec.json.Decoder[RequestId] = msgspec.json.Decoder(Id)
_rooms = msgspec.json.Decoder(str)

MOST_SHOWN = 100
"""Characters of a client's own text that an answer repeats."""


def check_content(allowed: frozenset[str]) -> None:
    """Check type and coding of the body; a missing type is allowed, a coding is not.

    :raises ProblemError: 415 (RFC 9110 section 15.5.16).
    """
    request = this_request()
    codings = ",".join(request.headers.getlist("Content-Encoding")).lower().split(",")
    if any(coding.strip() not in {"", "identity"} for coding in codings):
        problem = Problem.of(415, "Content-Encoding: none is taken here; send the body as it is")
        raise ProblemError(problem, (("Accept-Encoding", "identity"),))
    content_type: str = request.mimetype
    if content_type in allowed or ("application/json" in allowed and content_type.endswith("+json")):
        return
    wanted = ", ".join(sorted(allowed - {""}))
    raise ProblemError(
        Problem.of(415, f"Content-Type: {wanted}, or none at all; not {content_type[:MOST_SHOWN]}")
    )


def too_large(limit_bytes: int) -> ProblemError:
    """Return the answer to a body over the limit."""
    return ProblemError(Problem.of(413, f"a body has at most {limit_bytes} bytes here (http.body_bytes)"))


def check_utf8(text: bytes) -> bytes:
    """Return `text` if it is UTF-8, which JSON must be (RFC 8259 section 8.1).

    The JSON decoder does not look into the strings that are passed on as they are, and a text frame that is not
    UTF-8 makes its recipients close their connections (RFC 6455 section 8.1).

    :raises Refused: `invalid_json`.
    """
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Refused(ErrorCode.INVALID_JSON, "Invalid JSON: not UTF-8") from None
    return text


async def read_json(settings: HttpSettings) -> bytes:
    """Return the whole body, which claims to be JSON.

    :raises ProblemError: 413, 415, or 408 if it does not arrive within `http.request_seconds`.
    :raises Refused: `invalid_json` if it is not UTF-8.
    """
    check_content(JSON_TYPES)
    request = this_request()
    if (request.content_length or 0) > settings.body_bytes:
        raise too_large(settings.body_bytes)
    whole = bytearray()
    with trio.move_on_after(settings.request_seconds) as scope:
        async for chunk in request.body:
            whole += chunk
            if len(whole) > settings.body_bytes:
                raise too_large(settings.body_bytes)
    if scope.cancelled_caught:
        raise ProblemError(BODY_TOO_SLOW)
    return check_utf8(bytes(whole))


def decode_json(text: bytes, model: type[S]) -> S:
    """Decode `text` as `model`.

    :raises NotPortable: if it is nested too deep, or holds strings that are no Unicode text; see broker.portable_json.
    :raises Refused: `invalid_json`, or `invalid_message` naming the field.
    """
    try:
        # A message within may itself have MAX_LEVELS.
        value: S = decode(text, partial(msgspec.json.decode, type=model), MAX_LEVELS + 1)
    except msgspec.ValidationError as error:
        raise Refused(ErrorCode.INVALID_MESSAGE, describe_mismatch(error)) from None
    return value


def find_names(text: bytes) -> tuple[RequestId, str | UnsetType]:
    """Return the `id` and the `room` of a line that is refused, as far as they can be read."""
    written = members(text.decode(errors="replace"), max_runs=MAX_BRACKET_RUNS)
    found = {member.key: member.value.encode(errors="replace") for member in written}
    request_id: RequestId = None
    room: str | UnsetType = UNSET
    with suppress(msgspec.DecodeError):
        request_id = _ids.decode(found.get('"id"', b"null"))
    with suppress(msgspec.DecodeError):
        room = _rooms.decode(found.get('"room"', b""))
    return request_id, room


def check_parameters(model: type[msgspec.Struct] | None) -> None:
    """Refuse query parameters that `model` does not have: a slip would change what is asked for.

    :raises Refused: `invalid_message`, naming the nearest.
    """
    known = [] if model is None else [field.encode_name for field in msgspec.structs.fields(model)]
    for name in this_request().args:
        if name not in known:
            hint = f"the nearest is {nearest(name, known)}" if known else "this path takes none"
            raise Refused(ErrorCode.INVALID_MESSAGE, f"{name[:40]}: no such query parameter; {hint}")


def read_query(model: type[S]) -> S:
    """Return the parameters of the query string that `model` has; the first counts.

    :raises Refused: `invalid_message`, naming the parameter.
    """
    known = {field.encode_name for field in msgspec.structs.fields(model)}
    given = {name: value for name, value in this_request().args.items() if name in known}
    try:
        return msgspec.convert(given, model, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(ErrorCode.INVALID_MESSAGE, describe_mismatch(error)) from None
