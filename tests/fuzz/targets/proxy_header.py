"""The header of the PROXY protocol: a client or a refusal, in whatever pieces, and not one byte behind it."""

from ipaddress import ip_address

from broker.transport.proxy_header import HEAD_BYTES, SIGNATURE, ProxyHeaderError, read_proxy_header
from tests.fuzz.pieces import Pieces, in_pieces, run_now


def header(source: str, port: int, extra: bytes = b"") -> bytes:
    """Return a header as a proxy writes it (specification, section 2.2)."""
    address = ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed + bytes(len(address.packed)) + port.to_bytes(2, "big") + bytes(2) + extra
    return SIGNATURE + bytes([0x21, family]) + len(rest).to_bytes(2, "big") + rest


SEEDS = (
    header("192.0.2.1", 443) + b"GET / HTTP/1.1\r\n",
    header("2001:db8::1", 1, b"\x03\x00\x04abcd"),
    header("::ffff:192.0.2.1", 65535),
    SIGNATURE + b"\x20\x00\x00\x00behind",
    SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
    SIGNATURE + b"\x21\x11\x00\x03abc",
    SIGNATURE + b"\x21\x11\xff\xff",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"\r\n\r\n\x00\r\nQUI",
)


def check(data: bytes) -> None:
    """Read a header."""
    answer, rest = _read([data])
    for pieces in in_pieces(data):
        again, rest_again = _read(pieces)
        assert again == answer
        assert rest_again == rest or isinstance(answer, str)
    if isinstance(answer, str):
        return
    if not data:
        assert answer is None
        return
    # The specification, read once more.
    size = HEAD_BYTES + int.from_bytes(data[14:16], "big")
    assert data[:12] == SIGNATURE
    assert rest == data[size:]
    if answer is None:
        assert data[12] == 0x20 or data[13] not in {0x11, 0x21}
        return
    address, port = answer
    length = 4 if data[13] == 0x11 else 16
    written = ip_address(data[HEAD_BYTES : HEAD_BYTES + length])
    mapped = getattr(written, "ipv4_mapped", None) or written
    assert address == str(mapped)
    assert _read([header(address, port)])[0] == answer


def _read(pieces: list[bytes]) -> tuple[object, bytes]:
    stream = Pieces(pieces)
    try:
        return run_now(read_proxy_header(stream)), stream.rest()
    except ProxyHeaderError as error:
        return f"refused: {error}", stream.rest()
