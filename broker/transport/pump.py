"""One task that reads from all sockets.

Waking a task for each message of each connection is most of what a small message costs under trio. Here sockets
are watched by an epoll of our own, whose descriptor one task awaits; each time it wakes, it serves every socket
that is readable, in plain calls. Linux only; elsewhere each connection reads for itself.
"""

import os
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import outcome
import trio

READ_BYTES = 16_384
"""What is read from one socket before the next gets its turn: at most some 300 messages."""

SOCKETS_PER_POLL = 1024

TURN_SECONDS = 0.002
"""After so long the other tasks get their turn, whoever else is readable."""


class Pump:
    """Calls back whoever's socket is readable, while `run` is running; made by `open_pump`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, read: Callable[[], None]) -> None:
        """Call `read` each time the descriptor is readable, or broken, until `ignore`. It must not raise or block."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = read

    def ignore(self, descriptor: int) -> None:
        """Undo `watch`; to be called before the descriptor is closed."""
        self._epoll.unregister(descriptor)
        del self._readers[descriptor]

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            while ready := self._epoll.poll(0, SOCKETS_PER_POLL):
                await self._serve([descriptor for descriptor, _ in ready])

    def close(self) -> None:
        """Let go of the epoll, when nobody is watched any more."""
        self._epoll.close()

    async def _serve(self, descriptors: list[int]) -> None:
        turn_ends_at = trio.current_time() + TURN_SECONDS
        for descriptor in descriptors:
            read = self._readers.get(descriptor)
            if read is None:
                continue  # ignored since it was found readable
            read()
            if trio.current_time() > turn_ends_at:
                await trio.lowlevel.checkpoint()
                turn_ends_at = trio.current_time() + TURN_SECONDS
        await trio.lowlevel.checkpoint()


class Source(Protocol):
    """Where a WebSocket stream gets its bytes from."""

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """Read on until `sift` returns some of what it is given, and return that; b"" at the end.

        If cancelled, nothing is lost: what was read has been sifted.

        :raises trio.BrokenResourceError: if the connection is broken.
        """
        ...


class StreamSource:
    """Any stream, read by the task that wants the bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """See Source."""
        while True:
            data = bytes(await self._stream.receive_some(READ_BYTES))
            passed = sift(data) if data else b""
            if passed or not data:
                return passed


class PumpedSource:
    """A socket, read by the pump while a task waits for what is sifted out."""

    def __init__(self, pump: Pump, stream: trio.SocketStream) -> None:
        self._pump = pump
        self._stream = stream

    async def receive(self, sift: Callable[[bytes], bytes]) -> bytes:
        """See Source."""
        await trio.lowlevel.checkpoint_if_cancelled()
        descriptor = self._stream.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError
        task = trio.lowlevel.current_task()

        def wake(result: outcome.Outcome[bytes]) -> None:
            self._pump.ignore(descriptor)
            trio.lowlevel.reschedule(task, result)

        def read() -> None:
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                wake(outcome.Error(trio.BrokenResourceError(str(error))))
                return
            try:
                passed = sift(data) if data else b""
            except Exception as error:  # noqa: BLE001  # the reader's own, and nobody else's
                wake(outcome.Error(error))
                return
            if passed or not data:
                wake(outcome.Value(passed))

        def abort(_: object) -> trio.lowlevel.Abort:
            self._pump.ignore(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        self._pump.watch(descriptor, read)
        result: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return result


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


def open_source(stream: trio.abc.ReceiveStream, pump: Pump | None) -> Source:
    """Return the best source for a stream."""
    if pump is not None and isinstance(stream, trio.SocketStream):
        return PumpedSource(pump, stream)
    return StreamSource(stream)
