"""Frames of the server: whatever is put into one, a client's wsproto reads the same."""

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from broker.transport.frames import (
    CLOSE_OPCODE,
    PING_OPCODE,
    PONG_OPCODE,
    close_frame,
    control_frame,
    is_close_frame,
    text_frame,
)

SEEDS = (b"", b"hi", "é€😀".encode(), b"x" * 125, b"x" * 126, "é".encode() * 62, b"\xff\xfe", b"x" * 70_000)


def check(data: bytes) -> None:
    """Put `data` into each kind of frame."""
    text = data.decode(errors="replace")
    frame = text_frame(text.encode())
    assert not is_close_frame(frame)
    parts = [event for event in _read(frame) if isinstance(event, TextMessage)]
    assert "".join(part.data for part in parts) == text
    assert [part.message_finished for part in parts][-1:] == [True]
    payload = data[:125]
    for opcode, kind in ((PING_OPCODE, Ping), (PONG_OPCODE, Pong)):
        assert [(type(event), event.payload) for event in _read(control_frame(opcode, payload))] == [
            (kind, payload)
        ]
    code = 3000 + len(data) % 2000
    frame = close_frame(code, text)
    (closed,) = _read(frame)
    assert is_close_frame(frame)
    assert isinstance(closed, CloseConnection)
    assert closed.code == code
    assert text.startswith(closed.reason or "")
    assert frame[0] & 0x0F == CLOSE_OPCODE


def _read(frame: bytes) -> list[object]:
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(frame)
    return list(connection.events())
