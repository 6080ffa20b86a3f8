"""One connection to one server: TCP or TLS, the greeting, and RESP 2 in both directions.

Any program may answer on the port: a peer that does not speak RESP as expected is a lost connection.
"""

import errno
import os
import ssl

import attrs
import hiredis
import trio

from broker.engine.redis.client.address import Address
from broker.engine.redis.client.announced import AnnouncedElements
from broker.engine.redis.client.commands import pack_command
from broker.engine.redis.client.errors import (
    LEAST_VERSION,
    abbreviated,
    connection_lost,
    refused_greeting,
    too_old,
)
from broker.engine.redis.replies import parse_greeting
from broker.errors import ConfigurationError

READ_BYTES = 65_536

MOST_REPLY_BYTES = 512 << 20
"""Largest reply that is accepted; Redis itself takes no longer string (proto-max-bulk-len)."""

_NOTHING = object()


@attrs.frozen
class Endpoint:
    """The address of one server, and the login."""

    address: Address
    user: str | None
    password: str | None = attrs.field(repr=False)
    database: int
    tls: ssl.SSLContext | None
    timeout_seconds: float
    """Limit for everything until the greeting is answered."""


class Connection:
    """An open connection. One task may send while another receives."""

    def __init__(self, stream: trio.abc.Stream, *, most_reply_bytes: int = MOST_REPLY_BYTES) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._most_reply_bytes = most_reply_bytes
        self._announced = AnnouncedElements()
        self._unfinished_bytes = 0  # of the incomplete reply
        self.is_replica = False
        """Whether the server is a replica, according to its greeting."""

    async def send(self, data: bytes) -> None:
        """Send packed commands.

        :raises EngineUnavailableError: if the connection is lost.
        """
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise connection_lost("connection lost") from error

    async def receive(self) -> list[object]:
        """Return the next replies, at least one; errors among them are `hiredis.ReplyError`.

        :raises EngineUnavailableError: if the connection is lost.
        """
        replies: list[object] = []
        try:
            while not replies:
                received = await self._stream.receive_some(READ_BYTES)
                if not received:
                    raise connection_lost("connection closed by the server")
                replies += self._parse(bytes(received))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise connection_lost("connection lost") from error
        return replies

    def _parse(self, received: bytes) -> list[object]:
        replies: list[object] = []
        self._unfinished_bytes += len(received)
        try:
            self._announced.add(received)
            self._reader.feed(received)
            while (reply := self._reader.gets()) is not _NOTHING:
                replies.append(reply)
        except Exception as error:  # not only ProtocolError: a map whose key is a list is a TypeError
            raise connection_lost(f"what came is not RESP: {abbreviated(received)}") from error
        if not self._reader.has_data() and received.endswith(b"\n"):  # hiredis may take a first byte alone
            self._announced.at_boundary()
        if replies:
            self._unfinished_bytes = 0
            self._announced.reply_ended()
        elif self._unfinished_bytes > self._most_reply_bytes:
            raise connection_lost(f"a reply of more than {self._most_reply_bytes} bytes")
        return replies

    async def aclose(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


async def open_connection(endpoint: Endpoint) -> Connection:
    """Connect and log in.

    :raises EngineUnavailableError: if the server cannot be reached, or cannot serve yet.
    :raises ConfigurationError: if it refuses the login or the database, is too old, or its certificate is not
        trusted.
    """
    try:
        with trio.fail_after(endpoint.timeout_seconds):
            connection = Connection(await _open_stream(endpoint))
            try:
                await _greet(connection, endpoint)
            except BaseException:
                await connection.aclose()
                raise
    except trio.TooSlowError:
        raise connection_lost(f"no connection within {endpoint.timeout_seconds:g} seconds") from None
    except (
        OSError,
        ValueError,
        trio.BrokenResourceError,
    ) as error:  # ValueError: no host can have such a name
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise ConfigurationError(
                f"server.engine: {endpoint.address}: {error.__cause__.verify_message}; see redis.ca_file"
            ) from error
        raise connection_lost(f"cannot connect: {_reason(error)}") from error
    return connection


async def _open_stream(endpoint: Endpoint) -> trio.abc.Stream:
    tcp = await trio.open_tcp_stream(endpoint.address.host, endpoint.address.port)
    if endpoint.tls is None:
        return tcp
    stream = trio.SSLStream(tcp, endpoint.tls, server_hostname=endpoint.address.host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise
    return stream


async def _greet(connection: Connection, endpoint: Endpoint) -> None:
    hello: tuple[str, ...] = ("HELLO", "2")
    if endpoint.password is not None:
        hello += ("AUTH", endpoint.user or "default", endpoint.password)
    reply = await _request(connection, endpoint, *hello)
    try:
        greeting = parse_greeting(reply)
    except ValueError as error:
        raise connection_lost("what answers is no Redis") from error
    # Valkey counts on from 7.2.
    if greeting.numbers < LEAST_VERSION:
        raise too_old(str(endpoint.address), f"version {greeting.version}")
    connection.is_replica = greeting.is_replica
    if endpoint.database:
        await _request(connection, endpoint, "SELECT", str(endpoint.database))


async def _request(connection: Connection, endpoint: Endpoint, *command: str) -> object:
    await connection.send(pack_command(*command))
    reply, *surplus = await connection.receive()
    if surplus:
        raise connection_lost("what answers is no Redis: a reply that nobody asked for")
    if isinstance(reply, hiredis.ReplyError):
        # Redis repeats the arguments of a command that it does not know.
        text = str(reply).replace(endpoint.password, "***") if endpoint.password else str(reply)
        raise refused_greeting(str(endpoint.address), text)
    return reply


def _reason(error: BaseException) -> str:
    """Return the reason at the first address; trio raises a group with one for each that it tried."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno).lower()
    return str(cause) or type(cause).__name__
