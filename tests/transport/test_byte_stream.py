"""The contract of every kind of byte stream."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from broker.transport.byte_stream import ByteStream, SocketByteStream
from broker.transport.pump import open_pump, open_reader
from tests.support.patience import PATIENCE_SECONDS
from tests.transport.wires import memory_pair, tcp_pair, tls_pair

Pair: TypeAlias = tuple[trio.abc.HalfCloseableStream, ByteStream]
RESET = struct.pack("ii", 1, 0)


async def tcp6_pair(_folder: Path) -> Pair:
    try:
        return await tcp_pair("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")


async def unix_pair(folder: Path) -> Pair:
    path = str(folder / "socket")
    with trio.socket.socket(socket.AF_UNIX) as listener:
        await listener.bind(path)
        listener.listen()
        client = await trio.open_unix_socket(path)
        accepted, _ = await listener.accept()
    return client, SocketByteStream.accepted(trio.SocketStream(accepted))


async def tcp4_pair(_folder: Path) -> Pair:
    return await tcp_pair()


async def pair_in_memory(_folder: Path) -> Pair:
    return memory_pair()


async def tls_over_tcp(_folder: Path) -> Pair:
    return await tls_pair(*await tcp_pair())


async def tls_of_an_older_version(_folder: Path) -> Pair:
    return await tls_pair(*await tcp_pair(), version=ssl.TLSVersion.TLSv1_2)


async def tls_in_memory(_folder: Path) -> Pair:
    return await tls_pair(*memory_pair())


@pytest.fixture(
    params=[
        tcp4_pair,
        tcp6_pair,
        unix_pair,
        pair_in_memory,
        tls_over_tcp,
        tls_of_an_older_version,
        tls_in_memory,
    ]
)
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[trio.abc.HalfCloseableStream, ByteStream]]:
    make: Callable[[Path], Awaitable[Pair]] = request.param
    client, server = await make(tmp_path)
    with trio.fail_after(PATIENCE_SECONDS):
        yield client, server
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


@asynccontextmanager
async def reading(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytearray]:
    """Gather what comes, to the end."""
    received = bytearray()

    async def read() -> None:
        while data := await stream.receive_some():
            received.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        yield received


async def test_bytes_arrive_in_order_however_they_are_written(pair: Pair) -> None:
    client, server = pair
    pieces = [b"%d " % number * 20_000 for number in range(20)]
    async with reading(client) as received:
        for number, piece in enumerate(pieces):
            written = server.write_nowait(memoryview(piece)) if number % 2 else 0
            assert 0 <= written <= len(piece)
            await server.send_all(piece[written:])
        await server.send_eof()
    assert received == b"".join(pieces)


async def test_what_is_written_at_once_has_an_end(pair: Pair) -> None:
    client, server = pair
    total = 0
    while written := server.write_nowait(b"x" * 100_000):
        total += written
    assert server.write_nowait(b"x") == 0
    async with reading(client) as received:
        await server.send_all(b"tail")
        await server.send_eof()
    assert len(received) == total + 4


async def test_each_side_ends_by_itself(pair: Pair) -> None:
    client, server = pair
    await server.send_eof()
    assert await client.receive_some() == b""
    await client.send_all(b"still heard")
    assert await server.receive_some() == b"still heard"
    await client.send_eof()
    assert await server.receive_some() == b""


async def test_an_end_that_shows_is_one(pair: Pair) -> None:
    client, server = pair
    assert not server.has_peer_ended()
    await client.send_all(b"unread")
    assert not server.has_peer_ended()
    await client.send_eof()
    if server.descriptor is not None:
        while not server.has_peer_ended():  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()
    assert await server.receive_some() == b"unread"
    server.abort()
    assert server.has_peer_ended()


@pytest.mark.parametrize("is_aborted", [True, False])
async def test_a_closed_stream_wakes_its_reader_and_does_nothing_more(pair: Pair, is_aborted: bool) -> None:
    client, server = pair

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        if is_aborted:
            server.abort()
        else:
            await server.aclose()
    assert await client.receive_some() == b""
    assert server.descriptor in {-1, None}
    with pytest.raises(trio.ClosedResourceError):
        await server.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await server.send_all(b"x")
    if server.descriptor is not None:
        with pytest.raises(trio.BrokenResourceError):
            server.write_nowait(b"x")
    server.abort()


@pytest.mark.parametrize("has_pump", [True, False])
async def test_the_pump_reads_what_has_a_descriptor_and_a_task_all_else(pair: Pair, has_pump: bool) -> None:
    client, server = pair
    received: list[bytes] = []
    started: list[object] = []
    async with open_pump() as pump, trio.open_nursery() as nursery:

        def start(run: Callable[[], Awaitable[None]]) -> None:
            started.append(run)
            nursery.start_soon(run)

        reader = open_reader(server, pump if has_pump else None, received.append, start)
        assert not reader.is_reading
        reader.resume()
        reader.resume()
        assert reader.is_reading
        assert len(started) == (0 if has_pump and server.descriptor is not None else 1)
        await client.send_all(b"hello")
        while b"".join(received) != b"hello":  # noqa: ASYNC110
            await trio.sleep(0)
        reader.pause()
        reader.pause()
        assert not reader.is_reading
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("has_pump", [True, False])
async def test_bytes_that_come_while_a_reader_is_paused_are_read_behind_the_pause(
    pair: Pair, has_pump: bool
) -> None:
    client, server = pair
    received: list[bytes] = []

    def note(data: bytes) -> None:
        received.append(data)
        if not data:
            reader.pause()

    async with open_pump() as pump, trio.open_nursery() as nursery:
        reader = open_reader(server, pump if has_pump else None, note, nursery.start_soon)
        reader.resume()
        reader.pause()
        await client.send_all(b"hello")
        await client.aclose()
        for _ in range(20):
            await trio.sleep(0)
        assert received == []
        reader.resume()
        while received != [b"hello", b""]:  # noqa: ASYNC110
            await trio.sleep(0)
        nursery.cancel_scope.cancel()


async def test_it_knows_both_ends(tmp_path: Path) -> None:
    client, server = await tcp_pair()
    own = client.socket.getpeername()
    assert server.peer_address == "127.0.0.1"
    assert server.endpoints() == (client.socket.getsockname(), own)
    await client.aclose()
    await server.aclose()
    with pytest.raises(OSError, match="descriptor"):
        server.endpoints()
    for pair, address in ((await unix_pair(tmp_path), "unix"), (memory_pair(), "10.0.0.1")):
        assert pair[1].peer_address == address
        assert pair[1].endpoints() == (None, None)
        for end in pair:
            await trio.aclose_forcefully(end)


async def test_a_reset_socket_is_broken() -> None:
    client, server = await tcp_pair()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await client.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        await trio.lowlevel.wait_readable(server.descriptor)
    with pytest.raises(trio.BrokenResourceError):
        server.write_nowait(b"x")
    await server.aclose()


async def test_one_that_was_reset_before_it_was_looked_at_is_none() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = await listener.accept()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await client.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        await trio.lowlevel.wait_readable(accepted.socket)
    with pytest.raises(OSError, match="not connected"):
        SocketByteStream.accepted(accepted)
    await accepted.aclose()
