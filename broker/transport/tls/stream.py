"""The bytes of a connection under TLS.

OpenSSL encrypts and decrypts between buffers in memory, so the pump, the flusher and the writer tasks serve these
connections as they serve plain ones. All connections of a port share two such buffers: OpenSSL keeps an incomplete
record itself, and what it produces is taken at once, so both are empty between two calls. Two of its own would cost
each connection some 40 KiB.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import attrs
import trio

from broker.transport.byte_stream import ByteDecoder, ByteStream, Endpoint

RECORD_BYTES = 16_384
"""The most plaintext of one TLS record (RFC 8446 section 5.1); also of what is read from the socket at once."""

ANSWER_BYTES = 4096
"""The most that OpenSSL may answer to one read, and that of such answers may wait. A peer may ask for new keys as often as it
likes (RFC 8446 section 4.6.3), which costs more than an empty frame: some 150 times in one read is no key management."""

CLOSE_NOTIFY_SECONDS = 1.0
"""How long the end of the own side may wait for a peer that does not read."""


@attrs.frozen(eq=False)
class TlsBuffers:
    """The memory between OpenSSL and the sockets of all connections; of one thread."""

    incoming: ssl.MemoryBIO = attrs.Factory(ssl.MemoryBIO)
    """Ciphertext for OpenSSL."""
    outgoing: ssl.MemoryBIO = attrs.Factory(ssl.MemoryBIO)
    """Ciphertext for the peer."""

    def clear(self) -> None:
        """Drop what an error has left of one connection, so that no other finds it."""
        if self.incoming.pending:
            self.incoming.read()
        if self.outgoing.pending:
            self.outgoing.read()


class TlsByteStream(ByteStream):
    """A stream behind its handshake, over another one.

    Of one record at most some ciphertext waits here for the inner stream.
    """

    __slots__ = (
        "_buffers",
        "_has_failed",
        "_inner",
        "_is_broken",
        "_is_closed",
        "_is_ended_by_peer",
        "_is_owed",
        "_is_sending",
        "_is_write_ended",
        "_plaintext",
        "_read",
        "_tls",
        "_unsent",
        "_write",
        "_write_inner",
    )

    def __init__(
        self,
        inner: ByteStream,
        tls: ssl.SSLObject,
        buffers: TlsBuffers,
        *,
        unsent: bytes = b"",
    ) -> None:
        """`tls` has finished its handshake, of which `unsent` is the end.

        What the peer has sent behind that is still in `buffers.incoming`.
        """
        self._inner = inner
        self._tls = tls
        self._buffers = buffers
        # Bound once: each write of a room goes through them.
        self._write = tls.write
        self._read: Callable[[int], bytes] = tls.read
        self._write_inner = inner.write_nowait
        self._plaintext = b""
        self._unsent = unsent
        self._is_owed = False
        """Whether the next write begins with a byte that is encrypted already."""
        self._is_sending = False
        self._is_write_ended = False
        self._has_failed = False
        """Whether no record can follow: a write was cut off, or is under way."""
        self._is_ended_by_peer = False
        self._is_broken = False
        """Whether the peer has sent something that cannot be decrypted."""
        self._is_closed = False
        self._decrypt()

    @property
    def peer_address(self) -> str:
        """See ByteStream."""
        return self._inner.peer_address

    def set_client(self, client: Endpoint) -> None:
        """See ByteStream."""
        self._inner.set_client(client)

    @property
    def descriptor(self) -> int | None:
        """See ByteStream: it brings ciphertext."""
        return self._inner.descriptor

    @property
    def decoder(self) -> ByteDecoder:
        """See ByteStream."""
        return self

    @property
    def is_tls(self) -> bool:
        """See ByteStream."""
        return True

    @property
    def has_client_certificate(self) -> bool:
        """See ByteStream. One that could not be verified ended the handshake."""
        return bool(self._tls.getpeercert(binary_form=True))

    @property
    def is_acknowledged(self) -> bool:
        """See ByteStream."""
        return self._inner.is_acknowledged

    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """See ByteStream."""
        return self._inner.endpoints()

    def has_peer_ended(self) -> bool:
        """See ByteStream."""
        return self._is_ended_by_peer or self._inner.has_peer_ended()

    # Reading

    def feed(self, data: bytes | bytearray) -> None:
        """See ByteDecoder. A stream that ends without close_notify has ended, too: HTTP and WebSocket frame their messages."""
        if not data:
            self._is_ended_by_peer = True
        elif not self._is_ended_by_peer:
            self._buffers.incoming.write(data)
            self._decrypt()

    def take(self) -> bytes | None:
        """See ByteDecoder."""
        plaintext, self._plaintext = self._plaintext, b""
        if plaintext:
            return plaintext
        return b"" if self._is_ended_by_peer else None

    @property
    def has_any(self) -> bool:
        """See ByteDecoder."""
        return bool(self._plaintext) or self._is_ended_by_peer

    def _decrypt(self) -> None:
        """Decrypt all that has come; what OpenSSL answers to it is sent."""
        buffers = self._buffers
        incoming = buffers.incoming
        is_broken = False
        try:
            while incoming.pending:
                plaintext = self._read(RECORD_BYTES)
                if not plaintext:
                    self._is_ended_by_peer = True
                    break
                self._plaintext = self._plaintext + plaintext if self._plaintext else plaintext
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            # The peer's close_notify behind our own.
            self._is_ended_by_peer = True
        except ssl.SSLError:
            self._is_ended_by_peer = is_broken = True
        if buffers.outgoing.pending:
            is_too_much = buffers.outgoing.pending > ANSWER_BYTES
            self._unsent += buffers.outgoing.read()
            self._flush_answer()
            if is_too_much or len(self._unsent) > RECORD_BYTES + 2 * ANSWER_BYTES:
                self._is_ended_by_peer = is_broken = True
        if self._is_ended_by_peer:
            buffers.clear()
        if is_broken:
            self._is_broken = self._has_failed = True

    def _flush_answer(self) -> None:
        """Send an alert or a new key as soon as that can be; at the latest the next write does."""
        if not (self._is_sending or self._has_failed):
            try:
                self._flush()
            except trio.BrokenResourceError:
                self._has_failed = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""
        if self._is_closed:
            raise trio.ClosedResourceError
        if self.has_any:
            await trio.lowlevel.checkpoint()
        while not self.has_any:
            self.feed(await self._inner.receive_some(RECORD_BYTES))
        plaintext = self.take() or b""
        if self._is_broken and not plaintext:
            raise trio.BrokenResourceError("what came is not encrypted as it should be")
        if max_bytes is not None and len(plaintext) > max_bytes:
            self._plaintext = plaintext[max_bytes:]
            plaintext = plaintext[:max_bytes]
        return plaintext

    # Writing

    def write_nowait(self, data: bytes | memoryview) -> int:
        """See ByteStream.

        The last byte of what is encrypted counts as written only once the inner stream has taken all ciphertext: the
        caller knows so that something waits, and writes again.
        """
        size = len(data)
        if self._unsent or self._is_owed or self._has_failed or not 0 < size <= RECORD_BYTES:
            return self._write_records(data)
        try:
            self._write(data)
        except ssl.SSLError as error:
            raise self._broken(error) from error
        ciphertext = self._buffers.outgoing.read()
        written = self._write_inner(ciphertext)
        if written == len(ciphertext):
            return size
        self._unsent = ciphertext[written:]
        self._is_owed = True
        return size - 1

    def _write_records(self, data: bytes | memoryview) -> int:
        if not self._flush():
            return 0
        written, self._is_owed = int(self._is_owed), False
        for record in self._records(memoryview(data)[written:]):
            written += record
            if not self._flush():
                self._is_owed = True
                return written - 1
        return written

    def _records(self, data: memoryview) -> Iterator[int]:
        """Encrypt `data` record by record, into `_unsent`; yields the size of each."""
        for start in range(0, len(data), RECORD_BYTES):
            record = data[start : start + RECORD_BYTES]
            try:
                self._write(record)
            except ssl.SSLError as error:
                raise self._broken(error) from error
            self._unsent += self._buffers.outgoing.read()
            yield len(record)

    def _flush(self) -> bool:
        """Write the ciphertext that waits; returns whether none is left."""
        if self._is_sending:
            return False
        if self._has_failed:
            raise trio.BrokenResourceError("an earlier write was cut off")
        if self._unsent:
            self._unsent = self._unsent[self._write_inner(self._unsent) :]
        return not self._unsent

    def _broken(self, error: ssl.SSLError) -> trio.BrokenResourceError:
        self._has_failed = True
        self._buffers.clear()
        return trio.BrokenResourceError(str(error))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream. If it is cancelled, the stream can be written no more."""
        if self._is_closed:
            raise trio.ClosedResourceError
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        if self._has_failed:
            raise trio.BrokenResourceError("an earlier write was cut off")
        rest, self._is_owed = memoryview(data)[int(self._is_owed) :], False
        if not rest:
            await self._send_unsent()
        for _ in self._records(rest):
            await self._send_unsent()

    async def _send_unsent(self) -> None:
        """Send the ciphertext that waits, and what is answered meanwhile; always a checkpoint."""
        self._is_sending = self._has_failed = True
        try:
            while True:
                ciphertext, self._unsent = self._unsent, b""
                await self._inner.send_all(ciphertext)
                if not self._unsent:
                    break
            self._has_failed = False
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self._inner.wait_send_all_might_not_block()

    # The end

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream: close_notify (RFC 8446 section 6.1), unless the peer does not read."""
        if not self._end_writing():
            with trio.move_on_after(CLOSE_NOTIFY_SECONDS):
                await self._send_unsent()
        await self._inner.send_eof()

    def _end_writing(self) -> bool:
        """Encrypt close_notify and write it if that can be at once; returns whether nothing is left to be sent."""
        if self._is_write_ended or self._has_failed:
            return True
        self._is_write_ended = True
        # It fails as a rule, as the peer's close_notify has not come.
        with suppress(ssl.SSLError, OSError):
            self._tls.unwrap()
        self._unsent += self._buffers.outgoing.read()
        try:
            return self._flush()
        except trio.BrokenResourceError:
            return True

    def abort(self) -> None:
        """See ByteStream."""
        self._is_closed = self._is_ended_by_peer = True
        self._inner.abort()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        if not self._is_closed:
            self._end_writing()
        self._is_closed = self._is_ended_by_peer = True
        await self._inner.aclose()
