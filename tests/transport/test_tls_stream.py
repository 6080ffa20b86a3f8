"""TLS over any stream: the same bytes arrive, however the ciphertext is cut and whatever waits."""

import ssl

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from broker.transport.byte_stream import MemoryByteStream
from broker.transport.outbox_state import Awaited
from broker.transport.pump import open_pump, open_reader
from broker.transport.tls.stream import RECORD_BYTES, TlsBuffers, TlsByteStream
from tests.support.patience import PATIENCE_SECONDS
from tests.transport.wires import FakeWire, TlsClient, memory_pair, open_outbox, tcp_pair, tls_pair

pieces_of_text = st.lists(st.binary(min_size=1, max_size=20_000), min_size=1, max_size=6)


async def over_memory(
    buffers: TlsBuffers | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[TlsClient, TlsByteStream]:
    return await tls_pair(*memory_pair(), buffers=buffers, version=version)


async def over_wire(
    credit: int, buffers: TlsBuffers | None = None
) -> tuple[TlsClient, TlsByteStream, FakeWire]:
    """The wire keeps what is written behind the handshake; the client is to be given that."""
    client, server = await over_memory(buffers)
    # The session tickets.
    client.incoming.write(await client.inner.receive_some(65_536))
    wire = FakeWire(credit)
    server._inner, server._write_inner = wire, wire.write_nowait
    return client, server, wire


async def read_to_the_end(stream: trio.abc.ReceiveStream, most: int) -> bytes:
    received = bytearray()
    while data := await stream.receive_some(most):
        assert len(data) <= most
        received += data
    return bytes(received)


@settings(max_examples=25)
@given(pieces_of_text, st.lists(st.integers(1, 30_000), min_size=1), st.integers(1, 40_000), st.booleans())
def test_ciphertext_may_be_cut_anywhere(
    texts: list[bytes], sizes: list[int], most: int, is_ended_in_order: bool
) -> None:
    async def run() -> None:
        client, server = await over_memory()
        ciphertext = b"".join(map(client.encrypt, texts))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                rest, turn = ciphertext, 0
                while rest:
                    size = sizes[turn % len(sizes)]
                    await client.inner.send_all(rest[:size])
                    rest, turn = rest[size:], turn + 1
                await (client if is_ended_in_order else client.inner).send_eof()

            assert await read_to_the_end(server, most) == b"".join(texts)

    trio.run(run)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.binary(min_size=2, max_size=40_000), st.integers(0, 60_000))), st.booleans())
def test_writes_that_are_taken_in_part_lose_and_repeat_nothing(
    writes: list[tuple[bytes, int]], is_sent_by_a_task: bool
) -> None:
    """The wire takes some bytes of each write at once; the rest of each is written next."""

    async def run() -> None:
        client, server, wire = await over_wire(0)
        for data, credit in writes:
            rest: bytes = data
            wire.give(credit)
            while rest:
                written = server.write_nowait(rest)
                rest = rest[written:]
                if rest and is_sent_by_a_task:
                    wire.give(100_000)
                    await server.send_all(rest)
                    break
                wire.give(10_000)
        client.incoming.write(bytes(wire.handed))
        received = b""
        while len(received) < sum(len(data) for data, _ in writes):
            received += client.tls.read(1 << 20)
        assert received == b"".join(data for data, _ in writes)

    trio.run(run)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=3_000)), max_size=20),
    st.integers(1, 500),
)
def test_connections_that_share_buffers_do_not_hear_each_other(
    turns: list[tuple[int, bytes]], cut: int
) -> None:
    async def run() -> None:
        buffers = TlsBuffers()
        pairs = [await over_memory(buffers) for _ in range(3)]
        rests = [b"", b"", b""]
        for index, text in turns:
            client, server = pairs[index]
            rests[index] += client.encrypt(text)
            # Half a record stays with OpenSSL while others come.
            server.feed(rests[index][:cut])
            rests[index] = rests[index][cut:]
            assert not buffers.incoming.pending
            assert not buffers.outgoing.pending
        for index, (_, server) in enumerate(pairs):
            if rests[index]:
                server.feed(rests[index])
            assert (server.take() or b"") == b"".join(text for other, text in turns if other == index)

    trio.run(run)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_cannot_be_decrypted_breaks_its_own_connection_alone(version: ssl.TLSVersion) -> None:
    buffers = TlsBuffers()
    (client, server), (other_client, other) = [await over_memory(buffers, version) for _ in range(2)]
    good, bad = client.encrypt(b"good"), bytearray(client.encrypt(b"bad"))
    bad[-1] ^= 1
    await client.inner.send_all(good + bad + client.encrypt(b"behind"))
    assert await server.receive_some() == b"good"
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        server.write_nowait(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")
    await server.aclose()
    await other_client.send_all(b"hello")
    assert await other.receive_some() == b"hello"
    await other.send_all(b"you too")
    assert await other_client.receive_some() == b"you too"


@pytest.mark.parametrize(("size", "reads"), [(5_000, 1), (4_000, 7)])
async def test_a_peer_that_lets_openssl_answer_without_end_is_cut(size: int, reads: int) -> None:
    """As by asking for new keys; the answers stand in the buffer that OpenSSL writes to."""
    buffers = TlsBuffers()
    client, server, _ = await over_wire(0, buffers)
    received = []
    while b"" not in received:
        buffers.outgoing.write(b"x" * size)
        server.feed(client.encrypt(b"y"))
        received += [server.take(), server.take()]
    assert received == [*[b"y", None] * (reads - 1), b"y", b""]
    assert not buffers.outgoing.pending


async def test_what_is_not_written_waits_for_one_record_at_most() -> None:
    """A limit of queued bytes counts plaintext: what waits encrypted is no more than a record."""
    _, server, _wire = await over_wire(1000)
    assert server.write_nowait(b"x" * 1_000_000) == RECORD_BYTES - 1
    assert len(server._unsent) < RECORD_BYTES


async def test_a_queue_waits_until_its_ciphertext_is_taken(autojump_clock: trio.abc.Clock) -> None:
    _, server, wire = await over_wire(10)
    async with trio.open_nursery() as nursery:
        outbox, ended = open_outbox(server, 1000, nursery.start_soon)
        outbox.put_control(b"abc")
        assert outbox.is_blocked
        assert not outbox.is_empty
        # A frame of which something is encrypted is not dropped.
        outbox.drop_unsent()
        await wait_all_tasks_blocked()
        assert outbox.statistics().awaited is Awaited.WRITER
        wire.give(1000)
        await wait_all_tasks_blocked()
        assert outbox.is_empty
        assert not ended


async def test_a_send_that_is_cut_off_is_the_last() -> None:
    _, server, wire = await over_wire(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"hello")
        await wait_all_tasks_blocked()
        assert server.write_nowait(b"x") == 0
        with pytest.raises(trio.BusyResourceError):
            await server.send_all(b"x")
        nursery.cancel_scope.cancel()
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            server.write_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"x")
        await server.send_eof()
    assert len(wire.handed) < 100


@pytest.mark.parametrize("is_cut", [False, True])
async def test_an_end_says_close_notify_and_a_cut_does_not(is_cut: bool) -> None:
    client, server = await tls_pair(*await tcp_pair())
    if is_cut:
        server.abort()
    else:
        await trio.aclose_forcefully(server)
    assert await client.receive_some() == b""
    assert client.is_cut is is_cut
    await client.aclose()


async def test_the_end_does_not_wait_long_for_a_peer_that_does_not_read(
    autojump_clock: trio.abc.Clock,
) -> None:
    _, server, _wire = await over_wire(0)
    began = trio.current_time()
    await server.send_eof()
    assert trio.current_time() - began < 10


@pytest.mark.parametrize("is_paused_first", [False, True])
async def test_the_pump_delivers_what_came_with_the_head(is_paused_first: bool) -> None:
    """Bytes that were decrypted before the pump has the stream, and no more come; the end follows, likewise."""
    client, server = await tls_pair(*await tcp_pair())
    received: list[bytes] = []

    def note(data: bytes) -> None:
        received.append(data)
        if is_paused_first or not data:
            reader.pause()

    with trio.fail_after(PATIENCE_SECONDS):
        await client.send_all(b"head and body")
        assert await server.receive_some(5) == b"head "
        async with open_pump() as pump, trio.open_nursery() as nursery:
            reader = open_reader(server, pump, note, nursery.start_soon)
            reader.resume()
            while not received:  # noqa: ASYNC110
                await trio.sleep(0)
            assert received == [b"and body"]
            # A record and the end in one read.
            await client.inner.send_all(client.encrypt(b"last"))
            await client.send_eof()
            while received[-1] != b"":  # noqa: ASYNC110
                reader.resume()
                await trio.sleep(0)
            assert received == [b"and body", b"last", b""]
            nursery.cancel_scope.cancel()
        await server.aclose()
        await client.aclose()


async def test_no_pump_is_needed_for_a_stream_in_memory() -> None:
    ours, theirs = memory_stream_pair()
    client, server = await tls_pair(ours, MemoryByteStream(theirs, "10.0.0.1"))
    assert server.descriptor is None
    await client.send_all(b"x")
    assert await server.receive_some() == b"x"
