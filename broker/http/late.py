"""The HTTP side of a server whose port is open before Quart and hypercorn are imported.

They take as long to import as almost everything else, and WebSockets need neither. So a thread imports them while the
port is open already. Requests wait for that, but for probes: whether the server is alive and ready does not depend on it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from broker.http.hosting.stream import HttpTransport
from broker.http.probes import Probe, ProbeAnswers, parse_probe

READ_BYTES = 65_536

_STOPPING = b"HTTP/1.1 503 \r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
"""The answer of a server that stops before it can give any other; nothing was done for the request."""


class HttpHost(Protocol):
    """Serves HTTP connections; see HttpServer."""

    async def serve(self, stream: HttpTransport) -> None:
        """Serve one connection to its end, and close it."""

    def begin_stop(self) -> None:
        """Close idle connections, and the others when they have answered."""

    def abort(self) -> None:
        """Close all connections at once."""


class LateHttp:
    """Answers probes until its host is opened, and gives it all connections; made by `open_late`."""

    def __init__(self, answers: ProbeAnswers, write_seconds: float) -> None:
        self._answers = answers
        self._write_seconds = write_seconds
        self._host: HttpHost | None = None
        self._is_decided = trio.Event()
        """Set once the host is open, or will not be in time."""
        self._is_stopping = False
        self._is_over = trio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the host is open."""
        return self._host is not None

    async def run(self, opening: Callable[[], AbstractAsyncContextManager[HttpHost]]) -> None:
        """Open the host, and close it after `end`."""
        async with opening() as self._host:
            if self._is_stopping:
                self._host.begin_stop()
            self._is_decided.set()
            await self._is_over.wait()

    async def serve(self, stream: HttpTransport) -> None:
        """Serve one connection to its end, and close it.

        :raises trio.BrokenResourceError: if the client goes before the host is open.
        """
        probe = None if self._host is not None else await self._answer_probe(stream)
        if probe is None or not probe.is_last:
            await self._is_decided.wait()
            if self._host is not None:
                await self._host.serve(stream)
                return
        if probe is None:
            await self._send(stream, _STOPPING)
        await stream.aclose()

    async def _answer_probe(self, stream: HttpTransport) -> Probe | None:
        """Answer the first request, and return it, if it is a probe; else put it back."""
        data = bytes(await stream.receive_some(READ_BYTES))
        probe = parse_probe(data)
        if probe is None:
            stream.put_back(data)
            return None
        if self._is_stopping:
            probe = probe._replace(is_last=True)
        await self._send(stream, await self._answers.answer(probe))
        return probe

    async def _send(self, stream: HttpTransport, answer: bytes) -> None:
        """Send an answer.

        :raises trio.BrokenResourceError: if the client is gone, or does not read.
        """
        try:
            with trio.fail_after(self._write_seconds):
                await stream.send_all(answer)
        except trio.TooSlowError:
            raise trio.BrokenResourceError("the client does not read") from None

    def begin_stop(self) -> None:
        """See HttpHost. Requests that wait for the host are refused."""
        self._is_stopping = True
        self._is_decided.set()
        if self._host is not None:
            self._host.begin_stop()

    def abort(self) -> None:
        """See HttpHost. Connections that wait for the host end by cancellation."""
        if self._host is not None:
            self._host.abort()

    def end(self) -> None:
        """Let `run` close the host; no connection may be served any more."""
        self._is_over.set()


@asynccontextmanager
async def open_late(
    answers: ProbeAnswers,
    opening: Callable[[], AbstractAsyncContextManager[HttpHost]],
    *,
    write_seconds: float,
) -> AsyncIterator[LateHttp]:
    """Open a host while connections are served already; that is cancelled if the block is left before.

    An exception of `opening` or of the block is raised in an ExceptionGroup, as by a nursery.
    """
    late = LateHttp(answers, write_seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late.run, opening)
        yield late
        late.end()
        if not late.is_open:
            nursery.cancel_scope.cancel()
