"""A WebSocket client of the soak: polite, or as impolite as it is told to be."""

import os
import socket
import struct
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec
import trio

from bench.load.frames import CLOSE, PING, PONG, TEXT, FrameReader, client_frame
from bench.machine import HOST

_RESET = struct.pack("ii", 1, 0)
_READ_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"


class PeerGoneError(Exception):
    """The server has refused the connection or ended it; `code` is that of its close frame, 0 for none."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(f"closed with {code}" if code else "cut off")
        self.code = code


@attrs.define(eq=False)
class Peer:
    """One connection."""

    stream: trio.SocketStream
    _reader: FrameReader = attrs.Factory(FrameReader)
    _waiting: deque[dict[str, object]] = attrs.Factory(deque)

    async def send(self, **message: object) -> None:
        """Send a message.

        :raises PeerGoneError: if the connection is gone.
        """
        await self.send_raw(client_frame(msgspec.json.encode(message), os.urandom(4)))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes.

        :raises PeerGoneError: if the connection is gone.
        """
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGoneError from None

    async def receive(self) -> dict[str, object]:
        """Return the next message; pings are answered.

        :raises PeerGoneError: if the connection is gone.
        """
        while not self._waiting:
            for opcode, payload in self._reader.feed(await self.receive_raw()):
                if opcode == TEXT:
                    self._waiting.append(msgspec.json.decode(payload))
                elif opcode == PING:
                    await self.send_raw(client_frame(payload, os.urandom(4), PONG))
                elif opcode == CLOSE:
                    raise PeerGoneError(int.from_bytes(payload[:2]))
        return self._waiting.popleft()

    async def receive_until(self, kind: str) -> dict[str, object]:
        """Return the next message of a type.

        :raises PeerGoneError: if the connection is gone.
        """
        while (message := await self.receive())["type"] != kind:
            pass
        return message

    async def receive_raw(self, size: int = _READ_BYTES) -> bytes:
        """Return the next bytes.

        :raises PeerGoneError: at the end.
        """
        try:
            data = bytes(await self.stream.receive_some(size))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGoneError from None
        if not data:
            raise PeerGoneError
        return data

    async def say_goodbye(self) -> None:
        """Close as RFC 6455 section 7 has it, and wait for the answer.

        :raises PeerGoneError: always, in the end.
        """
        await self.send_raw(client_frame((1000).to_bytes(2), os.urandom(4), CLOSE))
        while True:
            await self.receive()

    def reset(self) -> None:
        """Have the connection reset when it is closed."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


@asynccontextmanager
async def open_peer(
    port: int, target: str, *, receive_buffer_bytes: int | None = None
) -> AsyncIterator[Peer]:
    """Connect, and shake hands; the connection is closed without a word when the block is left.

    :raises PeerGoneError: if that is refused.
    """
    own = trio.socket.socket()
    try:
        if receive_buffer_bytes is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await own.connect((HOST, port))
    except OSError:
        own.close()
        raise PeerGoneError from None
    async with peer_over(trio.SocketStream(own), target) as peer:
        yield peer


@asynccontextmanager
async def peer_over(stream: trio.SocketStream, target: str) -> AsyncIterator[Peer]:
    """Shake hands over a stream, as `open_peer` does, and close it.

    :raises PeerGoneError: if that is refused.
    """
    async with stream:
        peer = Peer(stream)
        key = b64encode(os.urandom(16)).decode()
        await peer.send_raw(
            f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        # Byte by byte: what comes behind the head is the reader's.
        while not head.endswith(_HEAD_END):
            head += await peer.receive_raw(1)
        if not head.startswith(b"HTTP/1.1 101"):
            raise PeerGoneError
        yield peer
