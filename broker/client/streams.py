"""Streams of bytes to a server, under trio and asyncio."""

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import anyio
from anyio.abc import ByteStream

from broker.client.address import Address


class TrioStream(Protocol):
    """The part of `trio.abc.Stream` that a client uses."""

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """Wait for some bytes; none at the end."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


Dial: TypeAlias = Callable[[], Awaitable[TrioStream]]
"""Opens a stream of bytes to the server; raises OSError if that fails."""


def dial_tcp(address: Address, ssl_context: ssl.SSLContext | None) -> Callable[[], Awaitable[ByteStream]]:
    """Return a function that connects over TCP, with TLS where the address asks for it."""

    async def dial() -> ByteStream:
        if not address.is_tls:
            return await anyio.connect_tcp(address.host, address.port)
        context = ssl_context or ssl.create_default_context()
        # The closing handshake of WebSocket shows truncation, so that of TLS is not waited for.
        return await anyio.connect_tcp(
            address.host,
            address.port,
            ssl_context=context,
            tls_standard_compatible=False,
            tls_hostname=address.host,
        )

    return dial


def adapt(dial: Dial) -> Callable[[], Awaitable[ByteStream]]:
    """Return a function that opens what `dial` opens, as a stream of anyio."""

    async def adapted() -> ByteStream:
        return _Adapted(await dial())

    return adapted


class _Adapted(ByteStream):
    """A stream of trio, with the errors of anyio."""

    def __init__(self, inner: TrioStream) -> None:
        import trio  # noqa: PLC0415  # whoever has such a stream has imported it; others need it not

        self._inner = inner
        self._broken = trio.BrokenResourceError
        self._closed = trio.ClosedResourceError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            received = await self._inner.receive_some(max_bytes)
        except self._closed as error:
            raise anyio.ClosedResourceError from error
        except self._broken as error:
            raise anyio.BrokenResourceError from error
        if not received:
            raise anyio.EndOfStream
        return bytes(received)

    async def send(self, item: bytes) -> None:
        try:
            await self._inner.send_all(item)
        except self._closed as error:
            raise anyio.ClosedResourceError from error
        except self._broken as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        raise NotImplementedError("a WebSocket ends with a close frame")

    async def aclose(self) -> None:
        await self._inner.aclose()
