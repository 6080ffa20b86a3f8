"""One connection to one server: TCP or TLS, the greeting, and RESP 2 in both directions."""

import errno
import os
import ssl

import attrs
import hiredis
import trio

from broker.engine.redis.address import Address
from broker.engine.redis.errors import LEAST_VERSION, refused_greeting, too_old
from broker.errors import ConfigurationError, EngineUnavailableError

READ_BYTES = 65_536

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


def lost(reason: str) -> EngineUnavailableError:
    """Return what is told of requests whose connection is gone."""
    return EngineUnavailableError(f"redis: {reason}")


class Connection:
    """Commands out, replies in. One task may send while another receives."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)

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
                self._reader.feed(bytes(received))
                while (reply := self._reader.gets()) is not _NOTHING:
                    replies.append(reply)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise lost("connection lost") from error
        except hiredis.ProtocolError as error:
            raise lost("what came is not RESP") from error
        return replies

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
    except (OSError, trio.BrokenResourceError) as error:
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
    greeting = await _ask(connection, door, *hello)
    assert isinstance(greeting, list)
    fields = dict(zip(greeting[::2], greeting[1::2], strict=True))
    version = bytes(fields[b"version"]).decode()
    # Valkey counts on from 7.2.
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_VERSION:
        raise too_old(str(door.address), f"version {version}")
    if door.database:
        await _ask(connection, door, "SELECT", str(door.database))


async def _ask(connection: Connection, door: Door, *command: str) -> object:
    await connection.send(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means tuple[…, ...]
    [reply] = await connection.receive()
    if isinstance(reply, hiredis.ReplyError):
        raise refused_greeting(str(door.address), reply)
    return reply


def _reason(error: BaseException) -> str:
    """Return the first plain reason: trio tells of each address that it tried."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno).lower()
    return str(cause) or type(cause).__name__
