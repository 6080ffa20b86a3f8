"""Notices at once that a client has reset its connection, while nothing is read from it.

Reading would notice, and take in what else the client sends. Without a nursery and a task for each answer that is waited
for, an epoll of our own watches for errors alone. Linux only; elsewhere, and on a stream without a descriptor, a reset
shows when the answer is written.
"""

import select
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NoReturn

import trio


class ResetWatch:
    """Calls back once for each watched connection that is reset, while `run` is running."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._callbacks: dict[int, Callable[[], None]] = {}

    @contextmanager
    def watching(self, descriptor: int | None, on_reset: Callable[[], None]) -> Iterator[None]:
        """Call `on_reset`, which must not raise, if the socket is reset within the block.

        The socket may be closed within, and its number given to another that is watched.
        """
        if self._epoll is None or descriptor is None or descriptor < 0:
            yield
            return
        # Errors are reported whether they are asked for or not; an edge is reported once.
        self._epoll.register(descriptor, select.EPOLLET)
        self._callbacks[descriptor] = on_reset
        try:
            yield
        finally:
            if self._callbacks.get(descriptor) is on_reset:
                del self._callbacks[descriptor]
                self._unregister(descriptor)

    def _unregister(self, descriptor: int) -> None:
        assert self._epoll is not None
        # A socket that is closed was unregistered by that.
        with suppress(OSError):
            self._epoll.unregister(descriptor)

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        if self._epoll is None:
            await trio.sleep_forever()
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, events in self._epoll.poll(0):
                # A peer that has only ended its side, or both in good order, gets what it asked for.
                if events & select.EPOLLERR and descriptor in self._callbacks:
                    self._callbacks[descriptor]()

    def close(self) -> None:
        """Close the epoll, once nothing is watched."""
        if self._epoll is not None:
            self._epoll.close()


@asynccontextmanager
async def open_reset_watch() -> AsyncIterator[ResetWatch]:
    """Run a watch until the block is left."""
    watch = ResetWatch()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            yield watch
            nursery.cancel_scope.cancel()
    finally:
        watch.close()
