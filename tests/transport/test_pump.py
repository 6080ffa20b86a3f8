"""One task reads for all: what goes wrong with one socket is heard by its own reader, and by nobody else."""

import socket
import struct
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from broker.transport import pump as pump_module
from broker.transport.byte_stream import SocketByteStream
from broker.transport.pump import READ_BYTES, Pump, PumpedSource, open_pump

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
    source: PumpedSource
    received: bytearray = attrs.Factory(bytearray)

    @classmethod
    def open(cls, pump: Pump) -> "Pipe":
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        stream = SocketByteStream.accepted(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        return cls(peer, stream, PumpedSource(pump, stream))

    async def receive(self) -> bytes:
        return await self.source.receive(lambda data: data)

    async def gather(self) -> None:
        """Take all that comes, up to the end."""

        def take(data: bytes) -> bytes:
            self.received += data
            return b""

        assert await self.source.receive(take) == b""

    async def aclose(self) -> None:
        self.peer.close()
        await self.stream.aclose()


async def test_what_one_makes_of_its_bytes_may_fail_and_the_others_are_read_on(pump: Pump) -> None:
    poisoned, well = Pipe.open(pump), Pipe.open(pump)

    def fail(_data: bytes) -> bytes:
        raise ZeroDivisionError("a fault of ours")

    async def read_poisoned() -> None:
        with pytest.raises(ZeroDivisionError):
            await poisoned.source.receive(fail)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_poisoned)
        nursery.start_soon(well.gather)
        await wait_all_tasks_blocked()
        poisoned.peer.send(b"poison")
        well.peer.send(b"well")
        while well.received != b"well":  # noqa: ASYNC110
            await trio.sleep(0)
        well.peer.close()
    await poisoned.aclose()
    await well.aclose()


async def test_a_reset_is_heard(pump: Pump) -> None:
    pipe = Pipe.open(pump)

    async def read() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await pipe.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pipe.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pipe.peer.close()
    await pipe.aclose()


async def test_an_end_is_heard_behind_the_last_words(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    pipe.peer.send(b"last words")
    pipe.peer.shutdown(socket.SHUT_WR)
    assert await pipe.receive() == b"last words"
    assert await pipe.receive() == b""
    assert await pipe.receive() == b""
    await pipe.aclose()


async def test_a_closed_socket_is_not_read(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    await pipe.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await pipe.receive()


async def test_nothing_is_lost_by_a_cancellation(pump: Pump) -> None:
    pipe = Pipe.open(pump)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.gather)
            await wait_all_tasks_blocked()
            pipe.peer.send(b"before ")
            while not pipe.received:  # noqa: ASYNC110
                await trio.sleep(0)
            scope.cancel()
    pipe.peer.send(b"and behind")
    pipe.peer.close()
    await pipe.gather()
    assert pipe.received == b"before and behind"
    with trio.CancelScope() as scope:
        scope.cancel()
        await pipe.gather()
    assert scope.cancelled_caught, "a cancelled task is given nothing"
    await pipe.aclose()


async def test_a_number_that_is_given_again_brings_the_new_sockets_bytes(pump: Pump) -> None:
    numbers = set()
    for turn in range(20):
        pipe = Pipe.open(pump)
        numbers.add(pipe.stream.descriptor)
        with trio.move_on_after(0.001):
            # Given up while bytes are on their way: they are nobody else's.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe.source.receive, lambda _data: b"")
                await wait_all_tasks_blocked()
                pipe.peer.send(b"stale")
                nursery.cancel_scope.cancel()
        await pipe.aclose()
        pipe = Pipe.open(pump)
        numbers.add(pipe.stream.descriptor)
        pipe.peer.send(b"%d" % turn)
        assert await pipe.receive() == b"%d" % turn
        await pipe.aclose()
    assert len(numbers) < 10


async def test_those_ignored_by_others_in_the_same_turn_are_not_called(pump: Pump) -> None:
    pipes = [Pipe.open(pump) for _ in range(10)]
    called: list[int] = []
    async with trio.open_nursery() as nursery:

        async def read(number: int) -> None:
            def end_all(_data: bytes) -> bytes:
                called.append(number)
                nursery.cancel_scope.cancel()
                return b""

            await pipes[number].source.receive(end_all)

        for number in range(10):
            nursery.start_soon(read, number)
        await wait_all_tasks_blocked()
        for pipe in pipes:
            pipe.peer.send(b"x")
    assert len(called) == 1
    for number, pipe in enumerate(pipes):
        # Their bytes may have been read by then.
        if number not in called:
            assert await pipe.receive() == b"x"
        await pipe.aclose()


async def test_a_flood_leaves_others_their_turn(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    pipes = [Pipe.open(pump) for _ in range(50)]
    for pipe in pipes:
        pipe.peer.setblocking(False)
    quiet = Pipe.open(pump)
    read_at_once: list[int] = []

    def sift(data: bytes) -> bytes:
        read_at_once.append(len(data))
        return b""

    monkeypatch.setattr(pump_module, "SLICE_SECONDS", -1)
    async with trio.open_nursery() as nursery:
        for pipe in pipes:
            nursery.start_soon(pipe.source.receive, sift)
        await wait_all_tasks_blocked()
        for pipe in pipes:
            pipe.peer.send(bytes(10 * READ_BYTES))
        quiet.peer.send(b"quiet")
        assert await quiet.receive() == b"quiet"
        # It comes in the next turn of the epoll: each of the others has been read once, or twice.
        assert len(read_at_once) <= 2 * len(pipes)
        assert max(read_at_once) == READ_BYTES
        for _ in range(100):
            before = len(read_at_once)
            await trio.lowlevel.checkpoint()
            # One, or two when the order of the tasks changes.
            assert len(read_at_once) - before <= 2, "after each that takes long the others get their turn"
        nursery.cancel_scope.cancel()
    for pipe in [*pipes, quiet]:
        await pipe.aclose()
