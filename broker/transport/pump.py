"""One task that reads from all sockets.

Waking a task for each message of each connection is most of what a small message costs under trio. Here an epoll of
our own watches the sockets, and one task awaits its descriptor. Each time it wakes it first reads from every readable
socket and then calls back with the bytes, so that kernel and interpreter evict each other from the processor's caches
less often. Linux only; elsewhere each connection's task reads.
"""

import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol, TypeAlias

import trio

from broker.transport.byte_stream import ByteDecoder, ByteStream

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


OnRead: TypeAlias = Callable[[bytes], None]
"""Is called with the bytes of a read, and with none at the end of the stream or once the connection is broken.

It must not block or raise.
"""

StartTask: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task that ends with the connection."""


class Pump:
    """Reads watched sockets and calls back, while `run` is running; made by `open_pump`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, OnRead] = {}

    def watch(self, descriptor: int, on_read: OnRead) -> None:
        """Call `on_read` with each read from the descriptor, until `unwatch`.

        If one callback unwatches another descriptor, a reading made of that one is still delivered.
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = on_read

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
            for on_read, reading in readings:
                on_read(reading)
            if trio.current_time() > slice_ends_at:
                await trio.lowlevel.checkpoint()
                slice_ends_at = trio.current_time() + SLICE_SECONDS

    def _read_some(self, descriptors: Iterator[int]) -> list[tuple[OnRead, bytes]]:
        """Read from the next sockets; returns the readings, none when there are no more sockets."""
        readings: list[tuple[OnRead, bytes]] = []
        size = 0
        for descriptor in descriptors:
            on_read = self._callbacks.get(descriptor)
            if on_read is None:
                continue  # unwatched since it was found readable
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            readings.append((on_read, data))
            size += len(data)
            if size >= READ_BYTES or len(readings) == SOCKETS_PER_READ:
                break
        return readings


class ByteReader(Protocol):
    """Reads one stream and calls back, from `resume` on, until `pause`; paused at first."""

    @property
    def is_reading(self) -> bool:
        """Whether it reads."""
        ...

    def resume(self) -> None:
        """Read; nothing happens if it does already.

        :raises trio.ClosedResourceError: if the stream is closed.
        """
        ...

    def pause(self) -> None:
        """Call back no more; to be called before the stream is closed, and at its end."""
        ...


class PumpedReader:
    """A stream with a descriptor, which the pump reads."""

    __slots__ = ("_descriptor", "_on_read", "_pump", "_stream")

    def __init__(self, pump: Pump, stream: ByteStream, on_read: OnRead) -> None:
        self._pump = pump
        self._stream = stream
        self._on_read = on_read
        self._descriptor = -1  # the one that is watched

    @property
    def is_reading(self) -> bool:
        """See ByteReader."""
        return self._descriptor >= 0

    def resume(self) -> None:
        """See ByteReader."""
        if self._descriptor >= 0:
            return
        descriptor = self._stream.descriptor
        if descriptor is None or descriptor < 0:
            raise trio.ClosedResourceError
        self._pump.watch(descriptor, self._on_read)
        self._descriptor = descriptor

    def pause(self) -> None:
        """See ByteReader."""
        if self._descriptor >= 0:
            self._pump.unwatch(self._descriptor)
            self._descriptor = -1


class DecodingReader(PumpedReader):
    """A stream whose descriptor, which the pump reads, brings other bytes than its own."""

    __slots__ = ("_decoder", "_on_decoded", "_start_task")

    def __init__(
        self, pump: Pump, stream: ByteStream, decoder: ByteDecoder, on_read: OnRead, start_task: StartTask
    ) -> None:
        super().__init__(pump, stream, self._feed)
        self._decoder = decoder
        self._on_decoded = on_read
        self._start_task = start_task

    def resume(self) -> None:
        """See ByteReader."""
        was_reading = self.is_reading
        super().resume()
        if not was_reading and self._decoder.has_any:
            # Nothing more may come that would wake the pump.
            self._start_task(self._deliver_soon)

    async def _deliver_soon(self) -> None:
        await trio.lowlevel.checkpoint()
        self._deliver()

    def _feed(self, data: bytes) -> None:
        self._decoder.feed(data)
        self._deliver()

    def _deliver(self) -> None:
        # A reader that pauses gets the end, too, behind the pause.
        while self.is_reading and (decoded := self._decoder.take()) is not None:
            self._on_decoded(decoded)
            if not decoded:
                return


class TaskReader:
    """A stream of any kind, which a task reads; while paused it holds at most one read."""

    def __init__(
        self,
        stream: trio.abc.ReceiveStream,
        on_read: OnRead,
        start_task: StartTask,
    ) -> None:
        self._stream = stream
        self._on_read = on_read
        self._start_task = start_task
        self._is_started = False
        self._resumed = trio.lowlevel.ParkingLot()
        self.is_reading = False
        """See ByteReader."""

    def resume(self) -> None:
        """See ByteReader."""
        self.is_reading = True
        self._resumed.unpark_all()
        if not self._is_started:
            self._is_started = True
            self._start_task(self._read)

    def pause(self) -> None:
        """See ByteReader."""
        self.is_reading = False

    async def _read(self) -> None:
        data: bytes | bytearray = b"?"
        while data:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            while not self.is_reading:
                await self._resumed.park()
            self._on_read(bytes(data))


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


def open_reader(
    stream: ByteStream,
    pump: Pump | None,
    on_read: OnRead,
    start_task: StartTask,
) -> ByteReader:
    """Return the best reader for a stream; `start_task` starts a task that reads, if one is needed."""
    if pump is not None and stream.descriptor is not None:
        decoder = stream.decoder
        if decoder is None:
            return PumpedReader(pump, stream, on_read)
        return DecodingReader(pump, stream, decoder, on_read, start_task)
    return TaskReader(stream, on_read, start_task)
