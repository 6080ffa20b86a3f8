"""The header of the PROXY protocol, version 2: who the client is, and that not one byte more is read."""

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from broker.transport.proxy_header import MOST_BYTES, SIGNATURE, ProxyHeaderError, read_proxy_header


def header(source: str, port: int, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    """Return a header as a proxy writes it (specification, section 2.2)."""
    address = ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    target = bytes(len(address.packed))
    rest = address.packed + target + port.to_bytes(2, "big") + (443).to_bytes(2, "big") + extra
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


async def read(data: bytes, sizes: list[int], behind: bytes = b"") -> tuple[object, bytes]:
    """Return what is read from `data`, which comes in pieces of those sizes, and what is left behind it."""
    ours, theirs = memory_stream_pair()
    pieces = iter(sizes)

    async def receive_some(max_bytes: int | None = None) -> bytes | bytearray:
        assert max_bytes is not None
        return await plain(max(1, min(max_bytes, next(pieces, max_bytes))))

    await ours.send_all(data + behind)
    await ours.send_eof()
    plain, theirs.receive_some = theirs.receive_some, receive_some  # type: ignore[method-assign]
    client = await read_proxy_header(theirs)
    rest = bytearray()
    while part := await plain(1000):
        rest += part
    return client, bytes(rest)


SIZES = st.lists(st.integers(1, 40), max_size=20)


@given(st.ip_addresses(), st.integers(0, 65_535), st.binary(max_size=200), SIZES, st.binary(max_size=50))
# As many bytes behind the head as in it.
@example(ip_address("192.0.2.1"), 443, bytes(4), [16, 1], b"")
async def test_the_client_is_read_and_not_one_byte_more(source, port, extra, sizes, behind) -> None:
    client, rest = await read(header(str(source), port, extra=extra), sizes, behind)
    mapped = getattr(source, "ipv4_mapped", None)
    assert client == (str(source if mapped is None else mapped), port)
    assert rest == behind


@pytest.mark.parametrize(
    "data",
    [
        header("192.0.2.1", 1, command=0x20),
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x21\x00\x00\x03abc",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        b"",
    ],
    ids=["local", "local without addresses", "unspecified", "unix", "nothing"],
)
async def test_a_connection_without_a_client_is_the_proxys_own(data: bytes) -> None:
    assert await read(data, [], b"GET" if data else b"") == (None, b"GET" if data else b"")


WRONG = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"\x16\x03\x01\x02\x00",
    SIGNATURE[:5],
    header("192.0.2.1", 1)[:-1],
    header("192.0.2.1", 1, command=0x11),
    header("192.0.2.1", 1, command=0x22),
    SIGNATURE + b"\x21\x11\x00\x04abcd",
    SIGNATURE + b"\x21\x11" + (MOST_BYTES + 1).to_bytes(2, "big") + bytes(MOST_BYTES + 1),
]


@pytest.mark.parametrize("data", WRONG)
async def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        await read(data, [])


@given(st.binary(max_size=80), SIZES)
async def test_any_bytes_are_a_header_or_refused(data: bytes, sizes: list[int]) -> None:
    with suppress(ProxyHeaderError):
        await read(SIGNATURE[: len(data) % 13] + data, sizes)


async def test_what_is_no_header_is_refused_before_the_rest_has_come() -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(b"GET")
    with pytest.raises(ProxyHeaderError):
        await read_proxy_header(theirs)
