"""Streams put a head back, and end so that the last thing written arrives."""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from broker.transport.byte_stream import ByteStream, SocketByteStream
from broker.transport.streams import LINGER_SECONDS, ReplayStream
from tests.support.patience import PATIENCE_SECONDS
from tests.transport.wires import memory_pair, tcp_pair

MakePair: TypeAlias = Callable[[], Awaitable[tuple[trio.abc.HalfCloseableStream, ByteStream]]]


async def memory_pair_soon() -> tuple[trio.abc.HalfCloseableStream, ByteStream]:
    return memory_pair()


async def test_the_head_comes_first_in_whatever_pieces_it_is_asked_for() -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"head")
    await client.send_all(b"body")
    pieces = []
    for size in (1, 2, None, 3, None):
        with assert_checkpoints():
            pieces.append(bytes(await stream.receive_some(size)))
    assert pieces == [b"h", b"ea", b"d", b"bod", b"y"]


async def test_a_stream_without_a_head_is_what_it_wraps() -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"")
    await client.send_all(b"x")
    assert await stream.receive_some() == b"x"
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"answer")
    await stream.send_eof()
    assert await client.receive_some() == b"answer"
    assert await client.receive_some() == b""


async def test_it_remembers_when_the_peer_was_last_heard(autojump_clock: MockClock) -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"head")
    opened = trio.current_time()
    await trio.sleep(5)
    await stream.receive_some()
    assert stream.last_received == opened, "the head was read before"
    await client.send_all(b"x")
    await stream.receive_some()
    assert stream.last_received == opened + 5
    await trio.sleep(5)
    await client.send_eof()
    await stream.receive_some()
    assert stream.last_received == opened + 5, "an end is no sign of life"


@pytest.mark.parametrize("is_lingering", [True, False])
async def test_the_last_words_reach_a_peer_that_sent_more_than_was_read(
    is_lingering: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The end of the peer's side ends the lingering, not the clock: that would exceed the limit of the test.
    monkeypatch.setattr("broker.transport.streams.LINGER_SECONDS", 2 * PATIENCE_SECONDS)
    client, server = await tcp_pair()
    async with client:
        await client.send_all(b"never read" * 1000)
        await wait_until_received(server)
        stream = ReplayStream(server, b"")
        await stream.send_all(b"last words")
        if is_lingering:
            await close_as_a_peer_that_reads_to_the_end(stream, client)
        else:
            # This is what lingering is for: the kernel resets such a connection.
            await trio.aclose_forcefully(stream)
            with pytest.raises(trio.BrokenResourceError):
                await read_to_the_end(client)


async def read_to_the_end(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


async def wait_until_received(stream: SocketByteStream) -> None:
    """Wait until bytes lie in the kernel's buffer."""
    with trio.fail_after(PATIENCE_SECONDS):
        await trio.lowlevel.wait_readable(stream.descriptor)


async def close_as_a_peer_that_reads_to_the_end(stream: ReplayStream, client: trio.SocketStream) -> None:
    async def read_and_close() -> None:
        assert await read_to_the_end(client) == b"last words"
        await client.aclose()

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_and_close)
            await stream.aclose()


async def test_lingering_has_an_end_whatever_the_peer_sends(autojump_clock: MockClock) -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"")

    async def send_for_ever() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x" * 1000)
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_for_ever)
        started = trio.current_time()
        await stream.aclose()
        assert trio.current_time() - started == pytest.approx(LINGER_SECONDS)


async def test_there_is_nothing_to_linger_for_when_the_peer_has_ended(autojump_clock: MockClock) -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"")
    await client.send_eof()
    assert await stream.receive_some() == b""
    started = trio.current_time()
    await stream.aclose()
    assert trio.current_time() == started
    assert await client.receive_some() == b""


async def test_cancelled_it_closes_at_once(autojump_clock: MockClock) -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"")
    started = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        await stream.aclose()
    assert scope.cancelled_caught
    assert trio.current_time() - started == pytest.approx(0.1)
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")


async def test_a_second_close_neither_waits_nor_hurries_the_first(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    client, server = memory_pair()
    stream = ReplayStream(server, b"")
    nursery.start_soon(stream.aclose)
    await wait_all_tasks_blocked()
    started = trio.current_time()
    with assert_checkpoints():
        await stream.aclose()
    assert trio.current_time() == started
    await client.send_all(b"still open")
    await client.aclose()


async def test_closing_a_broken_stream_is_no_error() -> None:
    client, server = await tcp_pair()
    stream = ReplayStream(server, b"")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        await stream.aclose()
        await stream.aclose()


async def test_closing_beside_a_reader_closes_all_the_same(nursery: trio.Nursery) -> None:
    client, server = await tcp_pair()
    stream = ReplayStream(server, b"")
    outcome: list[type[BaseException]] = []

    async def read() -> None:
        try:
            await stream.receive_some()
        except trio.ClosedResourceError as error:
            outcome.append(type(error))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    with trio.fail_after(PATIENCE_SECONDS):
        await stream.aclose()
        assert await client.receive_some() == b""
    await wait_all_tasks_blocked()
    assert outcome == [trio.ClosedResourceError]
    await client.aclose()


@pytest.mark.parametrize("make_pair", [tcp_pair, memory_pair_soon])
@pytest.mark.parametrize("is_closing", [False, True])
async def test_abort_wakes_whoever_reads_or_lingers(
    nursery: trio.Nursery, is_closing: bool, make_pair: MakePair
) -> None:
    client, server = await make_pair()
    stream = ReplayStream(server, b"")
    finished = trio.Event()

    async def use() -> None:
        if is_closing:
            await stream.aclose()
        else:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()
        finished.set()

    nursery.start_soon(use)
    await wait_all_tasks_blocked()
    started = trio.current_time()
    stream.abort()
    await finished.wait()
    assert trio.current_time() - started < LINGER_SECONDS / 2
    await stream.aclose()
    await client.aclose()
