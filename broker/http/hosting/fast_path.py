"""The fast path of HTTP: answers plain posts of messages on the connection itself, with one write each if it can.

It stands before hypercorn, the authority. What is not plain, incomplete, or to be refused is put back, and hypercorn
reads it as if nothing had been read before: the bytes, and what is left of the time that a connection may be idle.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto

import attrs
import trio
from hypercorn.config import Config

from broker.auth.api_keys import Caller
from broker.http.hosting.resets import ResetWatch
from broker.http.hosting.stream import HttpStream, HttpTransport
from broker.http.plain_post import LINES, Answer, Call, Part, PlainPost, PostAnswers, parse_plain_post

READ_BYTES = 65_536
_CLOSING = b"connection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
"""As h11 writes it."""


class ServerFields:
    """The fields that hypercorn adds to each answer; they are made once a second."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._second = -1
        self._encoded = b""

    def encoded(self) -> bytes:
        """Return them as they are sent."""
        second = int(time.time())
        if second != self._second:
            fields = self._config.response_headers("h11")
            self._encoded = b"".join([b"%b: %b\r\n" % field for field in fields])
            self._second = second
        return self._encoded


@attrs.frozen
class FastPathOptions:
    """The options that the fast paths of all connections share."""

    answers: PostAnswers
    server_fields: ServerFields
    head_bytes: int
    request_seconds: float
    keep_alive_seconds: float
    is_stopping: Callable[[], bool]
    resets: ResetWatch


class _Next(Enum):
    """The server of a connection's next request."""

    POST = auto()
    """The fast path, if it is a plain post."""
    HYPERCORN = auto()
    """Hypercorn, which is given what the fast path has not answered."""
    CLOSE = auto()
    """Nothing: the last answer is sent."""


class PostFastPath:
    """Answers the plain posts of one connection."""

    def __init__(self, options: FastPathOptions, transport: HttpTransport, stream: HttpStream) -> None:
        """`stream` is over `transport`."""
        self._options = options
        self._transport = transport
        self._stream = stream
        self._address: str | None = None
        self._held = b""
        self._idle = trio.CancelScope()
        self._is_waiting = False
        self._is_answering = False
        self._is_reset = False
        self.idle_until = 0.0
        """The trio time at which the connection has been idle for long enough to be closed."""

    def recognizes(self, data: bytes) -> bool:
        """Whether a plain post begins with `data`, and may be answered here."""
        return not self._options.is_stopping() and self._find(data) is not None

    def begin_stop(self) -> None:
        """Let go of the connection if it is idle; hypercorn closes it."""
        if self._is_waiting:
            self._idle.cancel()

    async def serve(self) -> bool:
        """Answer plain posts while they come; True if hypercorn is to serve the connection next, False if it is closed.

        :raises trio.BrokenResourceError: if the connection breaks.
        """
        try:
            client, _ = self._transport.endpoints()
        except OSError:
            # Gone before its addresses were asked for.
            return False
        self._address = None if client is None else client[0]
        self._note_idle()
        step = _Next.POST
        # One scope for all waits: to enter one for each request costs a tenth of it.
        watching = self._options.resets.watching(self._transport.descriptor, self._note_reset)
        with watching, trio.CancelScope() as self._idle:
            while step is _Next.POST:
                step = await self._serve_next()
        if self._idle.cancelled_caught:
            step = _Next.HYPERCORN
        if step is _Next.CLOSE:
            await self._close()
            return False
        self._transport.put_back(self._held)
        self._held = b""
        return True

    async def _serve_next(self) -> "_Next":
        """Answer the next request, if it is a plain post."""
        if not self._held and not self._options.is_stopping():
            self._held = await self._receive()
            if self._idle.cancel_called:
                # The idle time ended as the request came: an answer that has to wait would be cut off, published or not.
                return _Next.HYPERCORN
        # Hypercorn closes the connection of a stopping server.
        found = None if self._options.is_stopping() else self._find(self._held)
        if found is None:
            return _Next.HYPERCORN
        post, caller = found
        call = Call(post, caller, self._address_of(post), trio.current_time())
        end = post.head_bytes + post.content_bytes
        if post.route == LINES:
            return await self._answer_lines(call, end)
        return await self._answer(call, end)

    async def _answer(self, call: Call, end: int) -> "_Next":
        if len(self._held) < end and await self._receive_content(end):
            await self._send(self._options.answers.answer_too_slow(call))
            return _Next.CLOSE
        if len(self._held) < end:
            # A connection with an open request is not idle.
            self._note_idle()
            return _Next.HYPERCORN
        self._begin_answering()
        answer = await self._options.answers.answer(call, self._held[call.post.head_bytes : end])
        self._is_answering = False
        is_last = self._options.is_stopping()
        await self._send(answer)
        return await self._finish(end, is_last=is_last)

    async def _answer_lines(self, call: Call, end: int) -> "_Next":
        self._begin_answering()
        content = self._held[call.post.head_bytes : end]
        is_answered = await self._options.answers.answer_lines(call, content, self._send_part)
        self._is_answering = False
        if not is_answered:
            return _Next.HYPERCORN
        return await self._finish(end, is_last=self._options.is_stopping())

    async def _finish(self, end: int, *, is_last: bool) -> "_Next":
        """Drop the request that was answered."""
        self._held = self._held[end:]
        self._note_idle()
        if self._held:
            # Requests in a row must not hold up the other tasks.
            await trio.lowlevel.checkpoint()
        return _Next.CLOSE if is_last else _Next.POST

    def _begin_answering(self) -> None:
        self._is_answering = True
        if self._is_reset:
            self._stream.note_reset()

    def _note_reset(self) -> None:
        """End the connection, and an answer that is waited for, as hypercorn does; a read sees the reset itself."""
        self._is_reset = True
        if self._is_answering:
            self._stream.note_reset()

    def _find(self, data: bytes) -> tuple[PlainPost, Caller] | None:
        post = parse_plain_post(data)
        if post is None or post.head_bytes > self._options.head_bytes:
            return None
        if post.route == LINES and len(data) < post.head_bytes + post.content_bytes:
            # They are answered while they come.
            return None
        caller = self._options.answers.admit(post)
        return None if caller is None else (post, caller)

    def _address_of(self, post: PlainPost) -> str | None:
        find_client = self._transport.find_client
        named = None if find_client is None else find_client(self._held[: post.head_bytes])
        return self._address if named is None else named

    def _note_idle(self) -> None:
        self.idle_until = trio.current_time() + self._options.keep_alive_seconds

    async def _receive(self) -> bytes:
        """Wait for a request; b"" if the peer has ended its side. Cancelled if the server stops, or the time is over."""
        self._is_waiting = True
        self._idle.deadline = self.idle_until
        try:
            return bytes(await self._transport.receive_some(READ_BYTES))
        finally:
            self._idle.deadline = math.inf
            self._is_waiting = False

    async def _receive_content(self, end: int) -> bool:
        """Read until `end` bytes are held, or the peer ends its side; returns whether that took too long."""
        held = bytearray(self._held)
        with trio.move_on_after(self._options.request_seconds) as scope:
            while len(held) < end:
                data = await self._transport.receive_some(READ_BYTES)
                if not data:
                    break
                held += data
        self._held = bytes(held)
        return scope.cancelled_caught

    async def _send(self, answer: Answer) -> None:
        await self._write(b"".join((*self._head(answer.head), b"\r\n", answer.content)))

    async def _send_part(self, part: Part) -> None:
        """Send a part in chunks (RFC 9112 section 7.1)."""
        pieces = [*self._head(part.head), _CHUNKED, b"\r\n"] if part.head else []
        if part.content:
            pieces.append(b"%x\r\n%b\r\n" % (len(part.content), part.content))
        if part.is_last:
            pieces.append(b"0\r\n\r\n")
        await self._write(b"".join(pieces))

    def _head(self, head: bytes) -> tuple[bytes, bytes, bytes]:
        closing = _CLOSING if self._options.is_stopping() else b""
        return head, closing, self._options.server_fields.encoded()

    async def _write(self, data: bytes) -> None:
        written = self._transport.write_nowait(data)
        if written < len(data):
            await self._stream.send_all(data[written:])

    async def _close(self) -> None:
        """Close as hypercorn does behind an answer that is the last."""
        with suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            await self._stream.send_eof()
        await self._stream.aclose()
