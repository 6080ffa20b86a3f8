"""One connection to one server: TCP or TLS, the greeting, and RESP 2 in both directions.

What comes may come from anything that answers on the port: whatever is not as it should be is a lost connection.
"""

import errno
import os
import ssl

import attrs
import hiredis
import trio

from broker.engine.redis.address import Address
from broker.engine.redis.errors import LEAST_VERSION, lost, refused_greeting, shown, too_old
from broker.engine.redis.replies import parse_greeting
from broker.errors import ConfigurationError

READ_BYTES = 65_536

MOST_REPLY_BYTES = 512 << 20
"""Largest reply that is waited for; Redis itself takes no longer string (proto-max-bulk-len)."""

MOST_ELEMENTS = 10_000_000
"""Most elements of a reply. hiredis makes room for as many as are announced before one has come."""

MOST_HEADER_BYTES = 24
_AGGREGATES = b"*%~>|"

_NOTHING = object()


@attrs.frozen
class Door:
    """How to get in at one server."""

    address: Address
    user: str | None
    password: str | None = attrs.field(repr=False)
    database: int
    tls: ssl.SSLContext | None
    timeout_seconds: float
    """For everything until the greeting is answered."""


class Connection:
    """Commands out, replies in. One task may send while another receives."""

    def __init__(self, stream: trio.abc.Stream, *, most_reply_bytes: int = MOST_REPLY_BYTES) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._most_reply_bytes = most_reply_bytes
        self._header = b""  # the beginning of one that has not come whole
        self._unfinished_bytes = 0  # of the reply that is under way
        self.is_replica = False
        """Whether the server said in its greeting that it only copies another."""

    async def send(self, data: bytes) -> None:
        """Send packed commands.

        :raises EngineUnavailableError: if the connection is lost.
        """
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise lost("connection lost") from error

    async def receive(self) -> list[object]:
        """Return the replies that are next, at least one; errors among them are `hiredis.ReplyError`.

        :raises EngineUnavailableError: if the connection is lost.
        """
        replies: list[object] = []
        try:
            while not replies:
                received = await self._stream.receive_some(READ_BYTES)
                if not received:
                    raise lost("connection closed by the server")
                replies += self._parse(bytes(received))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise lost("connection lost") from error
        return replies

    def _parse(self, received: bytes) -> list[object]:
        replies: list[object] = []
        data = self._header + received if self._header else received
        if not self._reader.has_data() and data[0] in _AGGREGATES and not self._is_header_whole(data):
            return replies
        self._header = b""
        self._unfinished_bytes += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                replies.append(reply)
        except Exception as error:  # not only ProtocolError: a map whose key is a list is a TypeError
            raise lost(f"what came is not RESP: {shown(data)}") from error
        if replies:
            self._unfinished_bytes = 0
        elif self._unfinished_bytes > self._most_reply_bytes:
            raise lost(f"a reply of more than {self._most_reply_bytes} bytes")
        return replies

    def _is_header_whole(self, data: bytes) -> bool:
        """Whether the header of an array has come whole; if not, it is kept."""
        end = data.find(b"\r\n", 0, MOST_HEADER_BYTES)
        if end < 0 and len(data) < MOST_HEADER_BYTES:
            self._header = data
            return False
        count = data[1:end]
        if end < 0 or (count.isdigit() and int(count) > MOST_ELEMENTS):
            raise lost(f"what came is not RESP: {shown(data)}")
        return True

    async def aclose(self) -> None:
        """Close without ceremony."""
        await trio.aclose_forcefully(self._stream)


async def open_connection(door: Door) -> Connection:
    """Connect and log in.

    :raises EngineUnavailableError: if the server cannot be reached, or cannot serve yet.
    :raises ConfigurationError: if it refuses the login or the database, is too old, or its certificate is not
        to be trusted.
    """
    try:
        with trio.fail_after(door.timeout_seconds):
            connection = Connection(await _open_stream(door))
            try:
                await _greet(connection, door)
            except BaseException:
                await connection.aclose()
                raise
    except trio.TooSlowError:
        raise lost(f"no connection within {door.timeout_seconds:g} seconds") from None
    except (
        OSError,
        ValueError,
        trio.BrokenResourceError,
    ) as error:  # ValueError: no host can have such a name
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise ConfigurationError(
                f"server.engine: {door.address}: {error.__cause__.verify_message}; see redis.ca_file"
            ) from error
        raise lost(f"cannot connect: {_reason(error)}") from error
    return connection


async def _open_stream(door: Door) -> trio.abc.Stream:
    tcp = await trio.open_tcp_stream(door.address.host, door.address.port)
    if door.tls is None:
        return tcp
    stream = trio.SSLStream(tcp, door.tls, server_hostname=door.address.host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise
    return stream


async def _greet(connection: Connection, door: Door) -> None:
    hello: tuple[str, ...] = ("HELLO", "2")
    if door.password is not None:
        hello += ("AUTH", door.user or "default", door.password)
    reply = await _ask(connection, door, *hello)
    try:
        greeting = parse_greeting(reply)
    except ValueError as error:
        raise lost("what answers is no Redis") from error
    # Valkey counts on from 7.2.
    if greeting.numbers < LEAST_VERSION:
        raise too_old(str(door.address), f"version {greeting.version}")
    connection.is_replica = greeting.is_replica
    if door.database:
        await _ask(connection, door, "SELECT", str(door.database))


async def _ask(connection: Connection, door: Door, *command: str) -> object:
    await connection.send(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means tuple[…, ...]
    reply, *surplus = await connection.receive()
    if surplus:
        raise lost("what answers is no Redis: a reply that nobody asked for")
    if isinstance(reply, hiredis.ReplyError):
        # Redis repeats the arguments of a command that it does not know.
        text = str(reply).replace(door.password, "***") if door.password else str(reply)
        raise refused_greeting(str(door.address), text)
    return reply


def _reason(error: BaseException) -> str:
    """Return the first plain reason: trio tells of each address that it tried."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno).lower()
    return str(cause) or type(cause).__name__
