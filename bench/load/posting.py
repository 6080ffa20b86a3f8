"""Notifiers over HTTP/1.1 on connections that are kept, and the members who hear of it; one thread, one epoll."""

import select
import socket
import time
from collections.abc import Callable

import attrs

from bench.errors import BenchError

_READ_BYTES = 1 << 18
_WAIT_SECONDS = 0.05
_STEP_SECONDS = 10.0


@attrs.define(eq=False)
class Notifier:
    """One connection that posts and waits for the answer, again and again."""

    socket: socket.socket
    request: bytes
    held: bytes = b""
    sent_at_ns: int = 0

    def post(self) -> None:
        """Send the next request."""
        self.sent_at_ns = time.perf_counter_ns()
        self.socket.sendall(self.request)

    def take(self) -> bool:
        """Read what is there; return whether the answer is complete.

        :raises BenchError: if it is no 200 with a Content-Length, or the connection has ended.
        """
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise BenchError("the server has ended a connection that is to be kept")
        self.held += chunk
        head, end, body = self.held.partition(b"\r\n\r\n")
        if not end:
            return False
        status, _, fields = head.partition(b"\r\n")
        if b" 200 " not in status + b" ":
            raise BenchError(f"a post was answered with {status.decode(errors='replace')}")
        for field in fields.lower().split(b"\r\n"):
            if field.startswith(b"content-length:"):
                complete = len(body) >= int(field[15:])
                self.held = b"" if complete else self.held
                return complete
        raise BenchError("an answer has no Content-Length")


@attrs.define(eq=False)
class Stream:
    """One request that goes on and on: a line for each message, a line in answer to each."""

    socket: socket.socket
    head: bytes
    line: bytes
    mark: bytes
    lines_at_once: int
    sent: int = 0
    answered: int = 0
    _tail: bytes = b""

    def begin(self) -> None:
        """Send the head and the first lines."""
        self.socket.sendall(self.head)
        self.top_up()

    def top_up(self) -> None:
        """Send lines until so many are not answered yet; in batches, as a queue behind a notifier gives them."""
        count = self.lines_at_once - (self.sent - self.answered)
        if count < self.lines_at_once // 2:
            return
        body = self.line * count
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(body), body))
        self.sent += count

    def take(self) -> int:
        """Read what is there; return how many lines it answers.

        :raises BenchError: if the connection has ended.
        """
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise BenchError("the server has ended the stream of messages")
        found, self._tail = count_marks(self._tail + chunk, self.mark)
        self.answered += found
        return found


def count_marks(data: bytes, mark: bytes) -> tuple[int, bytes]:
    """Return how often `mark` stands in `data`, and the end that may be the beginning of another."""
    count, last = data.count(mark), data.rfind(mark)
    return count, data[max(last + len(mark) if count else 0, len(data) - len(mark) + 1) :]


@attrs.define(eq=False)
class Listener:
    """A member of the room; counts the messages it hears by a mark that stands in each."""

    socket: socket.socket
    mark: bytes
    heard: int = 0
    _tail: bytes = b""

    def take(self) -> None:
        """Read what is there.

        :raises BenchError: if the connection has ended.
        """
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise BenchError("the server has ended the connection of a member")
        found, self._tail = count_marks(self._tail + chunk, self.mark)
        self.heard += found


def connect(host: str, port: int) -> socket.socket:
    """Return a connection; it waits 10 s at most for anything."""
    own = socket.create_connection((host, port), timeout=_STEP_SECONDS)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own


def join(host: str, port: int, target: str, mark: bytes) -> Listener:
    """Connect a member; return it once it is told that it is in its room.

    :raises BenchError: if it is not let in.
    """
    own = connect(host, port)
    own.sendall(
        f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    told = b""
    while b'joined"' not in told:
        chunk = own.recv(_READ_BYTES)
        if not chunk or (told and not told.startswith(b"HTTP/1.1 101")):
            raise BenchError(f"a member was not let in: {told[:80].decode(errors='replace')}")
        told += chunk
    return Listener(own, mark)


class Posting:
    """Runs what takes part until a time, and counts."""

    def __init__(self, listeners: list[Listener]) -> None:
        self._poll = select.epoll()
        self._takers: dict[int, Callable[[], None]] = {}
        self._sockets: list[socket.socket] = []
        self.latencies_ns: list[int] = []
        self.answered = 0
        for listener in listeners:
            self._watch(listener.socket, listener.take)

    def close(self) -> None:
        """Close every connection."""
        self._poll.close()
        for own in self._sockets:
            own.close()

    def add_notifier(self, notifier: Notifier) -> None:
        """Let it post from now on."""

        def take() -> None:
            if notifier.take():
                self.latencies_ns.append(time.perf_counter_ns() - notifier.sent_at_ns)
                self.answered += 1
                notifier.post()

        self._watch(notifier.socket, take)
        notifier.post()

    def add_stream(self, stream: Stream) -> None:
        """Let it send from now on."""

        def take() -> None:
            self.answered += stream.take()
            stream.top_up()

        self._watch(stream.socket, take)
        stream.begin()

    def run(self, seconds: float) -> float:
        """Go on for `seconds`; return how long it was."""
        begin = time.perf_counter()
        while (passed := time.perf_counter() - begin) < seconds:
            for file, _ in self._poll.poll(_WAIT_SECONDS):
                self._takers[file]()
        return passed

    def _watch(self, own: socket.socket, take: Callable[[], None]) -> None:
        self._sockets.append(own)
        self._takers[own.fileno()] = take
        self._poll.register(own, select.EPOLLIN)
