"""Frames of clients: the fast path with wsproto behind it finds what wsproto alone finds, and so do the boundaries."""

from collections.abc import Iterable
from typing import TypeAlias

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from broker.transport.fast_path import FastPath
from broker.transport.frame_boundaries import FrameBoundaries
from broker.transport.frames import CLOSE_OPCODE, PING_OPCODE, PONG_OPCODE
from tests.fuzz.pieces import in_pieces

LIMIT_BYTES = 1 << 20

SEEDS = (
    b"\x81\x82abcd\x00\x00\x89\x80abcd\x8a\x81abcd\x00\x88\x82abcd\x62\x8a",
    b"\x01\x81abcd\x00\x89\x80abcd\x00\x80abcd\x80\x82abcd\xa2\xcb",
    b"\x82\x83abcd\x00\x01\x02\x81\xfe\x00\x7eabcd" + b"\x20" * 126,
    b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01abcd\x00",
    b"\x81\x81abcd\x9e\x88\x80abcd\x81\x81abcd\x00",
    b"\x88\x87abcd\x62\x8a\x01\x11\x04\x62\xc3",
    b"\xc1\x80abcd\x83\x80abcd\x09\x80abcd\x89\x00",
)

Found: TypeAlias = tuple[str, object]


def check(data: bytes) -> None:
    """Read frames whole and in pieces."""
    expected, ends_in_error = _read_by_wsproto(Connection(ConnectionType.SERVER), [data])
    for pieces in ([data], *in_pieces(data)):
        found, has_failed = _read(pieces)
        assert (found, has_failed) == (expected, ends_in_error), "the fast path reads something else"
    if not ends_in_error:
        _check_boundaries(data, expected)


def _check_boundaries(data: bytes, expected: list[Found]) -> None:
    is_closed = expected[-1:] != [] and expected[-1][0] == "close"
    if is_closed:
        # wsproto reads nothing behind a close frame; what stands there is any bytes.
        return
    whole = FrameBoundaries()
    count = whole.feed(data)
    assert whole.messages == sum(kind in {"text", "bytes"} for kind, _ in expected)
    for pieces in in_pieces(data):
        boundaries = FrameBoundaries()
        assert sum(boundaries.feed(piece) for piece in pieces) == count
        assert (boundaries.messages, boundaries.has_close) == (whole.messages, whole.has_close)
        assert boundaries.is_between_messages == whole.is_between_messages


def _read(pieces: list[bytes]) -> tuple[list[Found], bool]:
    """Read as the server does: by the fast path, and from the first other frame on by wsproto."""
    found: list[Found] = []

    def handle_text(text: str) -> bool:
        found.append(("text", text))
        return True

    def handle_control(opcode: int, payload: bytes) -> bool | None:
        if opcode == CLOSE_OPCODE:
            return None
        found.append(({PING_OPCODE: "ping", PONG_OPCODE: "pong"}[opcode], payload))
        return True

    fast = FastPath(LIMIT_BYTES, handle_text, handle_control)
    waiting = list(pieces)
    while waiting:
        rest = fast.feed(waiting.pop(0))
        if rest and fast.is_turn_over:
            waiting.insert(0, rest)
        elif rest:
            more, has_failed = _read_by_wsproto(Connection(ConnectionType.SERVER), [rest, *waiting])
            return found + more, has_failed
    # Half a frame is judged when the stream ends.
    more, has_failed = _read_by_wsproto(Connection(ConnectionType.SERVER), [fast.take_held()])
    return found + more, has_failed


def _read_by_wsproto(connection: Connection, pieces: Iterable[bytes]) -> tuple[list[Found], bool]:
    """Return the whole messages and the controls, and whether they end with an error."""
    found: list[Found] = []
    parts: list[str | bytes] = []
    try:
        for piece in pieces:
            if not piece:
                continue
            connection.receive_data(piece)
            for event in connection.events():
                _add(found, parts, event)
                if isinstance(event, CloseConnection):
                    return found, False
    except RemoteProtocolError:
        return found, True
    return found, False


def _add(found: list[Found], parts: list[str | bytes], event: Event) -> None:
    match event:
        case TextMessage() | BytesMessage():
            parts.append(event.data)
            if event.message_finished:
                is_text = isinstance(event, TextMessage)
                whole = ("" if is_text else b"").join(parts)  # type: ignore[attr-defined, arg-type]
                found.append(("text" if is_text else "bytes", whole))
                parts.clear()
        case Ping():
            found.append(("ping", bytes(event.payload)))
        case Pong():
            found.append(("pong", bytes(event.payload)))
        case CloseConnection():
            # Which byte is no UTF-8 is counted from where a piece begins.
            found.append(("close", (int(event.code), None if event.code == 1007 else event.reason)))
