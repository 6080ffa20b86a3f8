"""Recognizes the head of an ordinary POST of messages, in one pass over its bytes. Pure.

What is recognized is a strict subset of what the HTTP server accepts, and means the same there: one form of each
element, no header that changes how a request is framed, routed or answered. Anything else is not plain, and None here.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from broker.auth.api_keys import Caller
from broker.errors import Refused
from broker.model import Excluded
from broker.protocol.tags import check_excluded, parse_tags

MESSAGES = "/api/rooms/<room>/messages"
BROADCAST = "/api/broadcast"
LINES = "/api/messages"

_REQUEST_LINE = re.compile(
    rb"POST /api/(?:(?:rooms/([A-Za-z0-9._~!$&'()*+,;=:@%-]++)/messages|(broadcast))"
    rb"(?:\?([A-Za-z0-9._~!$'()*,;:@/?&=+%-]++))?|messages)"
    rb" HTTP/1\.1\r\n"
)
_VALUE = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})++")
_OPTIONS = frozenset({b"ephemeral", b"tags", b"exclude_user", b"exclude_connection"})
_FIELDS = re.compile(rb"((?:[A-Za-z0-9-]++:[\t -~]*+\r\n)++)\r\n")
PLAIN_HOST = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")

_JSON_TYPES = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)
_LINES_TYPES = frozenset(
    {b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/json-lines"}
)
_TYPES = {MESSAGES: _JSON_TYPES, BROADCAST: _JSON_TYPES, LINES: _LINES_TYPES}

_PLAIN_NAMES = frozenset(
    b"accept accept-encoding accept-language authorization baggage cache-control connection content-length content-type "
    b"dnt forwarded from host idempotency-key origin pragma priority referer sentry-trace traceparent tracestate "
    b"user-agent via".split()
)
_PLAIN_PREFIXES = (b"x-", b"sec-fetch-")
"""Headers that are read here, or that neither the HTTP server nor the routes read."""


class Options(NamedTuple):
    """The options of a post, from its query."""

    is_ephemeral: bool = False
    tags: Mapping[str, str] | None = None
    excluded: Excluded | None = None


NO_OPTIONS = Options()


class PlainPost(NamedTuple):
    """A plain POST, by its head."""

    route: str
    """MESSAGES, BROADCAST or LINES."""
    room: str | None
    """The room, decoded; None if it is for several."""
    options: Options
    authorization: str | None
    origin: str | None
    key: str | None
    """Its Idempotency-Key."""
    head_bytes: int
    """Length of the head, with the empty line."""
    content_bytes: int
    """Length of the content, which stands behind the head."""
    traceparent: str | None = None


class Answer(NamedTuple):
    """An answer as it is sent, but for the fields that the HTTP server adds behind `head`."""

    head: bytes
    content: bytes


class Part(NamedTuple):
    """A part of an answer that is sent as it is made."""

    content: bytes
    is_last: bool
    head: bytes = b""
    """In the first part, the head of the answer; the HTTP server adds how its length is told."""


class Call(NamedTuple):
    """A plain post that is being answered."""

    post: PlainPost
    caller: Caller
    address: str | None
    began_at: float
    """The trio time at which its head had come."""

    @property
    def route(self) -> str:
        """The route of the request."""
        return self.post.route


class PostAnswers(Protocol):
    """Answers plain posts."""

    def admit(self, post: PlainPost) -> Caller | None:
        """Return who posts, if the post will be answered should its content be good, as far as its head shows."""
        ...

    async def answer(self, call: Call, content: bytes) -> Answer:
        """Return the answer to a post whose content is whole."""
        ...

    async def answer_lines(self, call: Call, content: bytes, send: Callable[[Part], Awaitable[None]]) -> bool:
        """Send the answer to LINES in parts; False if the route has to answer, and nothing was published or sent.

        :raises trio.BrokenResourceError: if the answer cannot be completed; or `send` did.
        """
        ...

    def answer_too_slow(self, call: Call) -> Answer:
        """Return the answer to a post whose content did not come in time."""
        ...


def parse_plain_post(data: bytes) -> PlainPost | None:
    """Return the request whose head stands at the beginning of `data`; None if it is not plain, or incomplete."""
    line = _REQUEST_LINE.match(data)
    if line is None:
        return None
    found = find_plain_fields(data, line.end())
    if found is None:
        return None
    fields, head_bytes = found
    route = MESSAGES if line[1] is not None else BROADCAST if line[2] is not None else LINES
    if not _is_plain(fields, _TYPES[route]):
        return None
    room = None if line[1] is None else _decode_segment(line[1])
    options = NO_OPTIONS if line[3] is None else _parse_query(line[3])
    if options is None or (room is None and line[1] is not None):
        return None
    post = PlainPost(
        route=route,
        room=room,
        options=options,
        authorization=_text(fields.get(b"authorization")),
        origin=_text(fields.get(b"origin")),
        key=_text(fields.get(b"idempotency-key")),
        head_bytes=head_bytes,
        content_bytes=int(fields[b"content-length"]),
    )
    return post._replace(traceparent=_text(fields[b"traceparent"])) if b"traceparent" in fields else post


def find_plain_fields(data: bytes, begin: int) -> tuple[dict[bytes, bytes], int] | None:
    """Return the fields of a head by lower-case name, and where it ends; None if one is not plain, or the end is missing."""
    found = _FIELDS.match(data, begin)
    if found is None:
        return None
    fields: dict[bytes, bytes] = {}
    for field in found[1][:-2].split(b"\r\n"):
        name, _, value = field.partition(b":")
        name = name.lower()
        if name in fields or (name not in _PLAIN_NAMES and not name.startswith(_PLAIN_PREFIXES)):
            return None
        fields[name] = value.strip()
    return fields, found.end()


def _is_plain(fields: dict[bytes, bytes], types: frozenset[bytes]) -> bool:
    content_type = fields.get(b"content-type")
    return (
        _LENGTH.fullmatch(fields.get(b"content-length", b"")) is not None
        and PLAIN_HOST.fullmatch(fields.get(b"host", b"")) is not None
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and (content_type is None or content_type.lower() in types)
    )


def _decode_segment(segment: bytes) -> str | None:
    """Return a segment of a path as routing sees it; None if routing sees several, or it is no UTF-8."""
    if b"%" not in segment:
        return segment.decode("ascii")
    try:
        decoded = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    return None if "/" in decoded else decoded


def _parse_query(query: bytes) -> Options | None:
    """Return the options in a query; None if a parameter is unknown, repeated, empty or refused by the routes."""
    values: dict[bytes, str] = {}
    for parameter in query.split(b"&"):
        name, _, written = parameter.partition(b"=")
        value = _decode_value(written)
        if value is None or name not in _OPTIONS or name in values:
            return None
        values[name] = value
    if values.get(b"ephemeral", "1") != "1":
        return None
    try:
        tags = parse_tags(values[b"tags"]) if b"tags" in values else None
        excluded = check_excluded(values.get(b"exclude_user"), values.get(b"exclude_connection"))
    except Refused:
        return None
    return Options(b"ephemeral" in values, tags, excluded)


def _decode_value(written: bytes) -> str | None:
    """Return a value of a query; None if it is empty, or its percent-encoding is broken or of no UTF-8."""
    if _VALUE.fullmatch(written) is None:
        return None
    try:
        return unquote_to_bytes(written.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii")
