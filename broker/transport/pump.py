"""One task that reads from all sockets.

Waking a task for each message of each connection is most of what a small message costs under trio. Here an epoll of
our own watches the sockets, and one task awaits its descriptor. Each time it wakes it first reads from every readable
socket and then calls back with the bytes, so that kernel and interpreter evict each other from the processor's caches
less often. Linux only; elsewhere each connection's task reads.
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
"""Limit of one read from one socket, at most some 300 messages; also of what is read from several before it is
handled, as the time of more cannot be bounded."""

SOCKETS_PER_READ = 64
"""Sockets that are read before the bytes are handled."""

SOCKETS_PER_POLL = 1024

BUSY_SOCKETS = 8
"""If so many were readable, others probably are by now: polling costs less than waiting."""

SLICE_SECONDS = 0.002
"""Time slice: after it other tasks run, even if more sockets are readable."""


Reading: TypeAlias = bytes | OSError
"""Result of a read: bytes, b"" at the end of the stream, or the error of a broken connection."""


class Pump:
    """Reads watched sockets and calls back, while `run` is running; made by `open_pump`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[Reading], None]] = {}

    def watch(self, descriptor: int, on_reading: Callable[[Reading], None]) -> None:
        """Call `on_reading` with each read from the descriptor, until `unwatch`; it must not raise or block.

        If one callback unwatches another descriptor, a reading made of that one is still delivered.
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = on_reading

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`; to be called before the descriptor is closed."""
        self._epoll.unregister(descriptor)
        del self._callbacks[descriptor]

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
        """Close the epoll, once nothing is watched."""
        self._epoll.close()

    async def _serve(self, descriptors: list[int]) -> None:
        slice_ends_at = trio.current_time() + SLICE_SECONDS
        waiting = iter(descriptors)
        while readings := self._read_some(waiting):
            for on_reading, reading in readings:
                on_reading(reading)
            if trio.current_time() > slice_ends_at:
                await trio.lowlevel.checkpoint()
                slice_ends_at = trio.current_time() + SLICE_SECONDS

    def _read_some(self, descriptors: Iterator[int]) -> list[tuple[Callable[[Reading], None], Reading]]:
        """Read from the next sockets; returns the readings, none when there are no more sockets."""
        readings: list[tuple[Callable[[Reading], None], Reading]] = []
        size = 0
        for descriptor in descriptors:
            on_reading = self._callbacks.get(descriptor)
            if on_reading is None:
                continue  # unwatched since it was found readable
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                readings.append((on_reading, error))
            else:
                readings.append((on_reading, data))
                size += len(data)
            if size >= READ_BYTES or len(readings) == SOCKETS_PER_READ:
                break
        return readings


class ByteSource(Protocol):
    """Reads the bytes of a WebSocket stream."""

    async def receive(self, process: Callable[[bytes], bytes]) -> bytes:
        """Read and call `process` until that returns some bytes, and return those; b"" at the end of the stream.

        If cancelled, nothing is lost: all that was read has been processed, or will be by the next call.

        :raises trio.BrokenResourceError: if the connection is broken.
        """
        ...


class StreamSource:
    """A stream that is read by the task that needs the bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream

    async def receive(self, process: Callable[[bytes], bytes]) -> bytes:
        """See ByteSource."""
        while True:
            data = bytes(await self._stream.receive_some(READ_BYTES))
            rest = process(data) if data else b""
            if rest or not data:
                return rest


class PumpedSource:
    """A stream with a descriptor, read by the pump while a task waits for its bytes."""

    def __init__(self, pump: Pump, stream: ByteStream) -> None:
        self._pump = pump
        self._stream = stream
        self._descriptor = -1  # the one that is watched while a task waits
        self._task: trio.lowlevel.Task | None = None
        self._process: Callable[[bytes], bytes] = bytes
        self._unprocessed: Reading | None = None
        """Read for a task that was cancelled in the same moment."""

    async def receive(self, process: Callable[[bytes], bytes]) -> bytes:
        """See ByteSource."""
        await trio.lowlevel.checkpoint_if_cancelled()
        descriptor = self._stream.descriptor
        if descriptor is None or descriptor < 0:
            raise trio.ClosedResourceError
        self._descriptor = descriptor
        self._process = process
        if self._unprocessed is not None:
            unprocessed, self._unprocessed = self._unprocessed, None
            result = self._result_of(unprocessed)
            if result is not None:
                return result.unwrap()
        self._task = trio.lowlevel.current_task()
        self._pump.watch(descriptor, self._on_reading)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            self._pump.unwatch(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        rest: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return rest

    def _on_reading(self, reading: Reading) -> None:
        if self._task is None:
            self._unprocessed = reading
            return
        result = self._result_of(reading)
        if result is not None:
            task, self._task = self._task, None
            self._pump.unwatch(self._descriptor)
            trio.lowlevel.reschedule(task, result)

    def _result_of(self, reading: Reading) -> outcome.Outcome[bytes] | None:
        """Return the outcome for the waiting task, None if it waits on."""
        if isinstance(reading, OSError):
            return outcome.Error(trio.BrokenResourceError(str(reading)))
        try:
            rest = self._process(reading) if reading else b""
        except Exception as error:  # noqa: BLE001  # raised in the waiting task, and nowhere else
            return outcome.Error(error)
        return outcome.Value(rest) if rest or not reading else None


@asynccontextmanager
async def open_pump() -> AsyncIterator[Pump | None]:
    """Run a pump where the system has epoll; nothing may be watched any more when the block is left."""
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
