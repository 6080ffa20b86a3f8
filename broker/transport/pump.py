"""One task that reads from all sockets.

Waking a task for each message of each connection is most of what a small message costs under trio. Here sockets
are watched by an epoll of our own, whose descriptor one task awaits; each time it wakes, it serves every socket
that is readable, in plain calls: first it reads from all of them, then it lets them handle what came, so that kernel and
interpreter push each other out of the processor's caches less often. Linux only; elsewhere each connection reads for
itself.
"""

import os
import select
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol, TypeAlias

import outcome
import trio

from broker.transport.byte_stream import ByteStream

READ_BYTES = 16_384
"""What is read from one socket before the next gets its turn: at most some 300 messages. Also, what is read from
several of them before it is handled: of more, nobody would know how long it takes."""

SOCKETS_PER_READ = 64
"""How many sockets are read before what came is handled."""

SOCKETS_PER_POLL = 1024

BUSY_SOCKETS = 8
"""After so many were readable, more probably are: to look costs less than to wait. After fewer, waiting does."""

TURN_SECONDS = 0.002
"""After so long the other tasks get their turn, whoever else is readable."""


Reading: TypeAlias = bytes | OSError
"""What a read brought: bytes, none at the end, or that the connection is broken."""


class Pump:
    """Calls back with what came from whose socket, while `run` is running; made by `open_pump`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._takers: dict[int, Callable[[Reading], None]] = {}

    def watch(self, descriptor: int, take: Callable[[Reading], None]) -> None:
        """Call `take` with whatever is read from the descriptor, until `ignore`; it must not raise or block.

        If one ends the watch of another, that one is given what was read for it already.
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._takers[descriptor] = take

    def ignore(self, descriptor: int) -> None:
        """Undo `watch`; to be called before the descriptor is closed."""
        self._epoll.unregister(descriptor)
        del self._takers[descriptor]

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        is_busy = False
        while True:
            if is_busy:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            ready = self._epoll.poll(0, SOCKETS_PER_POLL)
            await self._serve([descriptor for descriptor, _ in ready])
            is_busy = len(ready) >= BUSY_SOCKETS

    def close(self) -> None:
        """Let go of the epoll, when nobody is watched any more."""
        self._epoll.close()

    async def _serve(self, descriptors: list[int]) -> None:
        turn_ends_at = trio.current_time() + TURN_SECONDS
        waiting = iter(descriptors)
        while readings := self._read_some(waiting):
            for take, reading in readings:
                take(reading)
            if trio.current_time() > turn_ends_at:
                await trio.lowlevel.checkpoint()
                turn_ends_at = trio.current_time() + TURN_SECONDS

    def _read_some(self, descriptors: Iterator[int]) -> list[tuple[Callable[[Reading], None], Reading]]:
        """Read from the next sockets; returns what came, nothing when there are no more of them."""
        readings: list[tuple[Callable[[Reading], None], Reading]] = []
        size = 0
        for descriptor in descriptors:
            take = self._takers.get(descriptor)
            if take is None:
                continue  # ignored since it was found readable
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                readings.append((take, error))
            else:
                readings.append((take, data))
                size += len(data)
            if size >= READ_BYTES or len(readings) == SOCKETS_PER_READ:
                break
        return readings


class ByteSource(Protocol):
    """Where a WebSocket stream gets its bytes from."""

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """Read on until `sift` returns some of what it is given, and return that; b"" at the end.

        If cancelled, nothing is lost: what was read has been sifted, or will be by the next call.

        :raises trio.BrokenResourceError: if the connection is broken.
        """
        ...


class StreamSource:
    """Any stream, read by the task that wants the bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """See ByteSource."""
        while True:
            data = bytes(await self._stream.receive_some(READ_BYTES))
            passed = sift(data) if data else b""
            if passed or not data:
                return passed


class PumpedSource:
    """A stream with a descriptor, read by the pump while a task waits for what is sifted out."""

    def __init__(self, pump: Pump, stream: ByteStream) -> None:
        self._pump = pump
        self._stream = stream
        self._descriptor = -1  # the one that is watched while a task waits
        self._task: trio.lowlevel.Task | None = None
        self._sift: Callable[[bytes], bytes] = bytes
        self._unsifted: Reading | None = None
        """What was read for a task that was cancelled in the same moment."""

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """See ByteSource."""
        await trio.lowlevel.checkpoint_if_cancelled()
        descriptor = self._stream.descriptor
        if descriptor is None or descriptor < 0:
            raise trio.ClosedResourceError
        self._descriptor = descriptor
        self._sift = sift
        if self._unsifted is not None:
            unsifted, self._unsifted = self._unsifted, None
            result = self._result_of(unsifted)
            if result is not None:
                return result.unwrap()
        self._task = trio.lowlevel.current_task()
        self._pump.watch(descriptor, self._take)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            self._pump.ignore(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        passed: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return passed

    def _take(self, reading: Reading) -> None:
        if self._task is None:
            self._unsifted = reading
            return
        result = self._result_of(reading)
        if result is not None:
            task, self._task = self._task, None
            self._pump.ignore(self._descriptor)
            trio.lowlevel.reschedule(task, result)

    def _result_of(self, reading: Reading) -> outcome.Outcome[bytes] | None:
        """Return what the reader is to be given, None if it waits on."""
        if isinstance(reading, OSError):
            return outcome.Error(trio.BrokenResourceError(str(reading)))
        try:
            passed = self._sift(reading) if reading else b""
        except Exception as error:  # noqa: BLE001  # the reader's own, and nobody else's
            return outcome.Error(error)
        return outcome.Value(passed) if passed or not reading else None


@asynccontextmanager
async def open_pump() -> AsyncIterator[Pump | None]:
    """Run a pump where the system has what it takes; whoever uses it must be gone when the block is left."""
    if not hasattr(select, "epoll"):
        yield None
        return
    pump = Pump()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            yield pump
            nursery.cancel_scope.cancel()
    finally:
        pump.close()


def open_source(stream: ByteStream, pump: Pump | None) -> ByteSource:
    """Return the best source for a stream."""
    if pump is not None and stream.descriptor is not None:
        return PumpedSource(pump, stream)
    return StreamSource(stream)
