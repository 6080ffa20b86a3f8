"""Lines of messages: the same lines in whatever pieces they come, and each of them a draft or a refusal."""

import json

import msgspec

from broker.errors import Refused
from broker.http.api.lines import Line, LineSplitter
from broker.http.api.models import BatchLine
from broker.http.api.publishing import make_draft
from broker.http.bodies import check_utf8, decode_json, find_names
from broker.protocol.content import PLACED_FIELDS, read_header
from tests.fuzz.pieces import in_pieces

LIMIT_BYTES = 200

SEEDS = (
    b'{"room":"a","message":{"type":"goal","n":[1,2.5]},"id":1}\r\n\n{"room":"b","message":{"type":"x"}}',
    b'{"room":"a","message":{"type":"x","room":"b","offset":1},"tags":{"k":"v"},"exclude_user":"u"}\n',
    b'{"room":"a"\n{"message":1}\n"\n\xff\n{"room":"\\ud800","id":"x","message":{"type":"x"}}\n',
    b'{"room":"a","message":{"type":"x","deep":' + b"[" * 70 + b"]" * 70 + b"}}\n",
    b'{"room":"a","message":{"type":"x","n":99999999999999999999,"m":1e400}}\n',
    b"x" * 199 + b"\r\n" + b"x" * 200 + b"\r\n" + b"x" * 201 + b"\n \t\r\n",
)


def check(data: bytes) -> None:
    """Split and read a body."""
    lines = _split([data])
    assert lines == list(_expected(data))
    for pieces in in_pieces(data):
        assert _split(pieces) == lines, "in pieces there are other lines"
    for line in lines:
        if line.text is not None:
            _read(line.text)


def _split(pieces: list[bytes]) -> list[Line]:
    splitter = LineSplitter(LIMIT_BYTES)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.finish()]


def _expected(data: bytes) -> list[Line]:
    lines = []
    for number, text in enumerate(data.split(b"\n"), 1):
        whole = text.removesuffix(b"\r")
        if len(whole) > LIMIT_BYTES:
            lines.append(Line(number, None))
        elif whole.strip():
            lines.append(Line(number, whole))
    return lines


def _read(text: bytes) -> None:
    try:
        fields = decode_json(check_utf8(text), BatchLine)
    except Refused:
        # They are repeated in the answer.
        request_id, room = find_names(text)
        msgspec.json.encode((request_id, "" if room is msgspec.UNSET else room))
        return
    others = json.loads(text)
    assert (fields.room, fields.id) == (others["room"], others.get("id"))
    try:
        draft = make_draft(fields.message, None, tags=fields.tags)
    except Refused as refused:
        msgspec.json.encode(refused.message)
        return
    message = json.loads(bytes(fields.message))
    kept = {name: value for name, value in message.items() if name not in PLACED_FIELDS}
    assert json.loads(draft.content) == kept
    assert draft.header is not None
    assert draft.header.type == message["type"]
    assert read_header(draft.content).type == draft.header.type
