"""One task reads for all: what goes wrong with one socket is heard by its own reader, and by nobody else."""

import socket
import struct
from collections.abc import AsyncIterator, Callable

import attrs
import pytest
import trio

from broker.transport import pump as pump_module
from broker.transport.byte_stream import SocketByteStream
from broker.transport.pump import READ_BYTES, Pump, PumpedReader, open_pump

LONGEST_SECONDS = 120


@pytest.fixture
async def pump() -> AsyncIterator[Pump]:
    with trio.fail_after(LONGEST_SECONDS):
        async with open_pump() as pump:
            assert pump is not None, "these tests are for systems that have an epoll"
            yield pump


@attrs.define
class Pipe:
    """A socket that a pump reads, with all that came."""

    peer: socket.socket
    stream: SocketByteStream
    received: list[bytes] = attrs.Factory(list)
    on_read: Callable[[bytes], None] | None = None
    reader: PumpedReader = attrs.field(init=False)

    @classmethod
    def open(cls, pump: Pump) -> "Pipe":
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        stream = SocketByteStream.accepted(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        pipe = cls(peer, stream)
        pipe.reader = PumpedReader(pump, stream, pipe.note)
        pipe.reader.resume()
        return pipe

    def note(self, data: bytes) -> None:
        self.received.append(data)
        if not data:
            self.reader.pause()
        if self.on_read is not None:
            self.on_read(data)

    async def wait(self, *expected: bytes) -> None:
        """Wait until so much has come."""
        while self.received[-1:] != [b""] if expected[-1:] == (b"",) else not self.received:  # noqa: ASYNC110
            await trio.sleep(0)
        assert b"".join(self.received) == b"".join(expected)

    async def aclose(self) -> None:
        self.reader.pause()
        self.peer.close()
        await self.stream.aclose()


async def test_a_reset_is_an_end(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    pipe.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pipe.peer.close()
    await pipe.wait(b"")
    await pipe.aclose()


async def test_an_end_comes_once_behind_the_last_bytes(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    pipe.peer.send(b"last words")
    pipe.peer.shutdown(socket.SHUT_WR)
    await pipe.wait(b"last words", b"")
    for _ in range(20):
        await trio.sleep(0)
    assert pipe.received.count(b"") == 1
    await pipe.aclose()


async def test_a_closed_socket_is_not_read(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    await pipe.aclose()
    with pytest.raises(trio.ClosedResourceError):
        pipe.reader.resume()


async def test_a_paused_reader_is_read_by_nobody_and_loses_nothing(pump: Pump) -> None:
    pipe, other = Pipe.open(pump), Pipe.open(pump)
    pipe.reader.pause()
    pipe.peer.send(b"meanwhile")
    other.peer.send(b"x")
    await other.wait(b"x")
    assert pipe.received == []
    pipe.reader.resume()
    await pipe.wait(b"meanwhile")
    await pipe.aclose()
    await other.aclose()


async def test_a_number_that_is_given_again_brings_the_new_sockets_bytes(pump: Pump) -> None:
    numbers = set()
    for turn in range(20):
        pipe = Pipe.open(pump)
        numbers.add(pipe.stream.descriptor)
        pipe.peer.send(b"stale")
        await pipe.aclose()
        pipe = Pipe.open(pump)
        numbers.add(pipe.stream.descriptor)
        pipe.peer.send(b"%d" % turn)
        await pipe.wait(b"%d" % turn)
        await pipe.aclose()
    assert len(numbers) < 10


async def test_those_paused_by_others_in_the_same_turn_are_called_only_with_what_was_read(pump: Pump) -> None:
    pipes = [Pipe.open(pump) for _ in range(10)]

    def pause_all(_data: bytes) -> None:
        for pipe in pipes:
            pipe.reader.pause()

    for pipe in pipes:
        pipe.on_read = pause_all
        pipe.peer.send(b"x")
    while not any(pipe.received for pipe in pipes):  # noqa: ASYNC110
        await trio.sleep(0)
    for pipe in pipes:
        pipe.on_read = None
        pipe.reader.resume()
    for pipe in pipes:
        await pipe.wait(b"x")
        await pipe.aclose()


async def test_a_flood_leaves_others_their_turn(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "SLICE_SECONDS", -1)
    pipes = [Pipe.open(pump) for _ in range(50)]
    for pipe in pipes:
        pipe.peer.setblocking(False)
    quiet = Pipe.open(pump)

    def read_at_once() -> list[int]:
        return [len(data) for pipe in pipes for data in pipe.received]

    for pipe in pipes:
        pipe.peer.send(bytes(10 * READ_BYTES))
    quiet.peer.send(b"quiet")
    await quiet.wait(b"quiet")
    # It comes in the next turn of the epoll: each of the others has been read once, or twice.
    assert len(read_at_once()) <= 2 * len(pipes)
    assert max(read_at_once()) == READ_BYTES
    for _ in range(100):
        before = len(read_at_once())
        await trio.lowlevel.checkpoint()
        # One, or two when the order of the tasks changes.
        assert len(read_at_once()) - before <= 2, "after each that takes long the others get their turn"
    for pipe in [*pipes, quiet]:
        await pipe.aclose()
