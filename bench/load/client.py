"""Many WebSocket clients in one thread: sockets, frames and one epoll, and nothing that costs more."""

import os
import select
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterator

import attrs

from bench.errors import BenchError
from bench.load.frames import CLOSE, DEFLATED_TEXT, PING, PONG, TEXT, FrameReader, client_frame

_HEAD_END = b"\r\n\r\n"
_READ_BYTES = 1 << 16
_SEND_SECONDS = 10.0
_END = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"
"""Of a compressed message: what a sender leaves out (RFC 7692 section 7.2.1), and an empty last block."""
_RESET = struct.pack("ii", 1, 0)


class ConnectionFailedError(BenchError):
    """A connection, `number` of its caller, or its handshake was refused."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"connection {number} {why}")
        self.number, self.why = number, why


@attrs.define(eq=False)
class Client:
    """One connection; `number` is the caller's name for it. It is open once the server has switched protocols."""

    number: int
    request: bytes
    socket: socket.socket
    is_open: bool = False
    head: bytes = b""
    reader: FrameReader = attrs.Factory(FrameReader)
    mask: bytes = attrs.Factory(lambda: os.urandom(4))
    received_bytes: int = 0
    has_ended: bool = False
    """Whether the server has sent its close frame, with `close_code`, 0 for none."""
    close_code: int = 0

    def send(self, text: bytes) -> None:
        """Send a message. Waits while the server does not read.

        :raises OSError: if it does not for 10 s, or the connection is gone.
        """
        self.socket.sendall(client_frame(text, self.mask))

    def receive(self) -> list[bytes] | None:
        """Return the messages that are there, None if the connection has ended. Pings are answered.

        :raises BenchError: if the handshake is refused, or what comes are no frames of a server.
        """
        try:
            chunk = self.socket.recv(_READ_BYTES)
            if not chunk:
                return None
            self.received_bytes += len(chunk)
            if not self.is_open:
                chunk = self._read_head(chunk)
            texts = []
            for opcode, payload in self.reader.feed(chunk):
                if opcode == TEXT:
                    texts.append(payload)
                elif opcode == DEFLATED_TEXT:
                    texts.append(zlib.decompress(payload + _END, -zlib.MAX_WBITS))
                elif opcode == PING:
                    self.socket.sendall(client_frame(payload, self.mask, PONG))
                elif opcode == CLOSE:
                    self.has_ended, self.close_code = True, int.from_bytes(payload[:2])
                    break
        except OSError:
            return None
        except ValueError as error:
            raise BenchError(f"connection {self.number}: {error}") from error
        return texts

    def _read_head(self, chunk: bytes) -> bytes:
        self.head += chunk
        head, end, rest = self.head.partition(_HEAD_END)
        if not end:
            return b""
        status = head.partition(b"\r\n")[0]
        if not status.startswith(b"HTTP/1.1 101"):
            raise ConnectionFailedError(self.number, f"was refused: {status.decode(errors='replace')}")
        self.is_open = True
        return rest


class Clients:
    """The connections of one load. Leaving the block cuts those that are left."""

    def __init__(self, host: str, port: int, *, offers_deflate: bool = False) -> None:
        """With `offers_deflate` they understand compressed messages, each of which must stand alone."""
        self._address = (host, port)
        self._offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if offers_deflate else ""
        self._poll = select.epoll()
        self._by_file: dict[int, Client] = {}

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._poll.close()

    def connect(self, number: int, target: str, *, port: int | None = None) -> None:
        """Begin to connect to `target`, a path with its query; the handshake follows as the socket allows.

        `port` is that of another server on the same host.
        """
        key = b64encode(os.urandom(16)).decode()
        host, own_port = self._address
        port = port or own_port
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self._offer}\r\n"
        )
        own = socket.socket()
        own.setblocking(False)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._by_file[own.fileno()] = Client(number, request.encode(), own)
        own.connect_ex((host, port))
        self._poll.register(own, select.EPOLLOUT)

    def events(self, wait_seconds: float) -> Iterator[tuple[Client, list[bytes] | None]]:
        """Yield each client that has something to say, with what: messages, or None at its end.

        Waits up to `wait_seconds` for the first. Clients that have ended are let go.

        :raises ConnectionFailedError: if a connection or a handshake is refused; it is let go, and the others are told
            of by the next call.
        """
        for file, events in self._poll.poll(max(0.0, wait_seconds)):
            client = self._by_file.get(file)
            if client is None:
                continue
            try:
                texts = self._begin(client) if events & select.EPOLLOUT else client.receive()
            except ConnectionFailedError:
                self._let_go(file)
                raise
            if texts:
                yield client, texts
            if texts is None or client.has_ended:
                self._let_go(file)
                yield client, None

    def _let_go(self, file: int) -> None:
        self._by_file.pop(file).socket.close()

    def _begin(self, client: Client) -> list[bytes]:
        try:
            client.socket.settimeout(_SEND_SECONDS)
            client.socket.sendall(client.request)
        except OSError as error:
            raise ConnectionFailedError(client.number, f"failed: {error}") from error
        self._poll.modify(client.socket, select.EPOLLIN)
        return []

    def received_bytes(self) -> int:
        """Return how many bytes those that are open have received."""
        return sum(client.received_bytes for client in self._by_file.values())

    def cut(self) -> None:
        """End every connection at once and without a word: the server sees a reset."""
        for client in self._by_file.values():
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.socket.close()
        self._by_file.clear()
