"""The one port: reads each connection's request head and hands the connection to WebSocket or HTTP."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import TypeAlias, TypeVar

import attrs
import trio

from broker.config.settings import HttpSettings
from broker.errors import CloseCode, Disconnect, RefusalReason
from broker.transport.admission import Admission, Verdict
from broker.transport.byte_stream import ByteStream, SocketByteStream
from broker.transport.connection import ConnectionServices, ServedConnection, parse_destination
from broker.transport.forwarding import Forwarding
from broker.transport.handshake import HandshakeError
from broker.transport.head import (
    CONTINUE,
    OVERLOADED,
    TARGET_TOO_LONG,
    TIMED_OUT,
    TOO_LARGE,
    TOO_MANY,
    Head,
    HeadError,
    check_request,
    find_fault,
    parse_head,
    read_head,
)
from broker.transport.proxy_header import ProxyHeaderError, read_proxy_header
from broker.transport.streams import ReplayStream
from broker.transport.tls.handshake import HandshakeFailedError
from broker.transport.tls.port_tls import PortTls

REFUSAL_SECONDS = 1.0
"""Limit for writing an error response that is no answer to a handshake, and for serving a connection that is one too many."""

T = TypeVar("T")

Handler: TypeAlias = Callable[[], Awaitable[None]]
"""Serves a connection to its end."""

_REASON_OF_RESPONSE = {
    TIMED_OUT: RefusalReason.HEAD_TIMEOUT,
    TARGET_TOO_LONG: RefusalReason.HEAD_TOO_LARGE,
    TOO_LARGE: RefusalReason.HEAD_TOO_LARGE,
    b"": RefusalReason.HEAD_CUT_OFF,
}


_REASON_OF_VERDICT = {
    Verdict.ADDRESS_FULL: RefusalReason.ADDRESS_FULL,
    Verdict.NODE_FULL: RefusalReason.NODE_FULL,
    Verdict.TOO_FAST: RefusalReason.ACCEPT_RATE,
}


@attrs.define
class _Place:
    """The place of one connection among all."""

    address: str | None
    """The client; None for a trusted proxy, as long as it has named none."""
    verdict: Verdict


class Port:
    """Serves accepted connections; a failure of one is logged, not raised."""

    def __init__(
        self,
        services: ConnectionServices,
        admission: Admission,
        settings: HttpSettings,
        serve_http: Callable[[ReplayStream], Awaitable[None]],
    ) -> None:
        self._services = services
        self._admission = admission
        self._settings = settings
        self._serve_http = serve_http
        self._forwarding = Forwarding.of(services.sessions.settings.server)
        self._is_stopping = False
        self._waiting_for_head: set[trio.CancelScope] = set()

    def serve(self, stream: trio.SocketStream) -> Awaitable[None]:
        """Serve one connection to its end; for trio.serve_listeners."""
        try:
            connection = SocketByteStream.accepted(stream)
        except OSError:
            # Reset before it was looked at.
            return trio.aclose_forcefully(stream)  # noqa: ASYNC105  # trio awaits it
        return self.serve_stream(connection)

    async def serve_stream(self, stream: ByteStream) -> None:
        """Serve a stream of any kind as a connection."""
        address = None if self._is_proxy(stream) else stream.peer_address
        place = _Place(address, self._admission.enter(address, trio.current_time()))
        try:
            if address is None and place.verdict is Verdict.ADMITTED:
                await self._read_proxy_header(stream, place)
            with nullcontext() if place.verdict is Verdict.ADMITTED else trio.move_on_after(REFUSAL_SECONDS):
                handle = await self._find_handler(stream, place)
                await handle()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer is gone; nothing can be answered.
            pass
        except* Exception as failures:  # noqa: BLE001  # nothing of one connection may reach another
            # Also out of a group with a cancellation, which goes on.
            self._services.refusals.log_failure("connection failed", stream.peer_address, failures)
        finally:
            self._admission.leave(place.address, place.verdict)
            await trio.aclose_forcefully(stream)

    def _is_proxy(self, stream: ByteStream) -> bool:
        return self._forwarding is not None and self._forwarding.trusts(stream.peer_address)

    async def _read_proxy_header(self, stream: ByteStream, place: _Place) -> None:
        """Read the header with which a trusted proxy names its client, if it is to send one."""
        if self._forwarding is None or not self._forwarding.begins_with_proxy_header:
            return
        try:
            with trio.fail_after(self._settings.head_seconds):
                client = await self._until_stop(partial(read_proxy_header, stream))
        except (ProxyHeaderError, trio.TooSlowError) as error:
            reason = str(error) or "took too long"
            self._services.refusals.note(
                RefusalReason.PROXY_HEADER, stream.peer_address, event="bad request", reason=reason
            )
            raise trio.BrokenResourceError("no header of the PROXY protocol") from None
        if client is not None:
            stream.set_client(client)
            # A client that is a proxy itself names its own in each request.
            if not self._is_proxy(stream):
                self._name_client(place, client[0])

    def _name_client(self, place: _Place, address: str) -> None:
        place.address, place.verdict = address, self._admission.name_client(address)

    def _client_of(self, stream: ByteStream, head: Head) -> str | None:
        """Return the client that a request of a trusted proxy names; None if it names none."""
        assert self._forwarding is not None
        client = self._forwarding.client_of(stream.peer_address, head.values(self._forwarding.header))
        return None if client == stream.peer_address else client

    async def _find_handler(self, stream: ByteStream, place: _Place) -> Handler:
        """Return the handler. No stack frame keeps the head alive as long as the connection."""
        if place.verdict is Verdict.SURPLUS:
            return self._close_surplus(stream, stream.peer_address)
        tls = self._services.tls
        return await (
            self._find_by_head(stream, place) if tls is None else self._find_under_tls(stream, place, tls)
        )

    async def _find_under_tls(self, stream: ByteStream, place: _Place, tls: PortTls) -> Handler:
        """Shake hands, and return the handler; or the one that ends the connection if that fails."""
        if place.verdict is Verdict.TOO_FAST:
            # A handshake costs more than all that the rate of accepts is to bound.
            self._services.refusals.note(RefusalReason.ACCEPT_RATE, stream.peer_address)
            return partial(trio.aclose_forcefully, stream)
        try:
            secured = await self._until_stop(partial(tls.shake_hands, stream))
        except HandshakeFailedError as error:
            self._services.refusals.note(error.why, stream.peer_address, reason=str(error))
            return partial(_refuse, stream, error.answer)
        if secured is None:
            return partial(trio.aclose_forcefully, stream)
        return await self._find_by_head(secured, place)

    async def _find_by_head(self, stream: ByteStream, place: _Place) -> Handler:
        """Read the head of the first request, and return the handler."""
        if place.verdict in {Verdict.NODE_FULL, Verdict.TOO_FAST}:
            self._services.refusals.note(_REASON_OF_VERDICT[place.verdict], stream.peer_address)
            return partial(_refuse, stream, OVERLOADED)
        try:
            head = await self._read_head(stream)
            if head is None:
                return partial(trio.aclose_forcefully, stream)
            check_request(head)
        except HeadError as error:
            self._note_bad_head(stream.peer_address, error)
            return partial(_refuse, stream, error.response)
        websocket = self._find_websocket(stream, head, place)
        return websocket or self._make_http_handler(stream, head, place)

    def _close_surplus(self, stream: ByteStream, address: str) -> Handler:
        """`address` has just got this verdict."""
        self._services.refusals.note(_REASON_OF_VERDICT[self._admission.surplus_of], address)
        return partial(trio.aclose_forcefully, stream)

    def _make_http_handler(self, stream: ByteStream, head: Head, place: _Place) -> Handler:
        if place.verdict is Verdict.ADDRESS_FULL:
            self._services.refusals.note(RefusalReason.ADDRESS_FULL, stream.peer_address)
            return partial(_refuse, stream, TOO_MANY)
        http_stream = ReplayStream(
            stream,
            head.raw,
            # HTTP notes the refusals of later requests.
            check_head=partial(find_fault, max_bytes=self._settings.head_bytes),
            find_handler=partial(self._find_handler_of_next, stream, place),
            find_client=self._client_finder(stream, place),
        )
        return partial(self._serve_http, http_stream)

    def _client_finder(self, stream: ByteStream, place: _Place) -> Callable[[bytes], str | None] | None:
        if place.address is not None:
            return None
        return lambda head: self._client_of(stream, parse_head(head))

    def _find_handler_of_next(self, stream: ByteStream, place: _Place, request: bytes) -> Handler | None:
        """Return the handler that serves the connection from a later request on, None if HTTP does.

        `request` is its head and all that has been read behind it. Whether a connection becomes a WebSocket is
        decided by each request: a proxy may send one over any connection that it keeps (RFC 9110 section 7.8).
        """
        return self._find_websocket(stream, parse_head(request), place)

    def _find_websocket(self, stream: ByteStream, head: Head, place: _Place) -> Handler | None:
        """Return the handler of a WebSocket at one of our paths, None if the head asks for none."""
        destination = parse_destination(head.path, head.query) if head.is_websocket else None
        if destination is None:
            return None
        address, refusal = stream.peer_address, None
        if place.address is None and (client := self._client_of(stream, head)) is not None:
            # From here on the connection is this client's alone.
            address = client
            self._name_client(place, client)
            if place.verdict is Verdict.SURPLUS:
                return self._close_surplus(stream, client)
        if place.verdict is not Verdict.ADMITTED:
            refusal = Disconnect(
                CloseCode.TOO_MANY, "too many connections of this address", why=RefusalReason.ADDRESS_FULL
            )
        try:
            connection = ServedConnection(
                self._services, stream, head, destination, address=address, refusal=refusal
            )
        except HandshakeError as error:
            self._services.refusals.note(RefusalReason.HANDSHAKE, address)
            seconds = self._services.sessions.settings.websocket.handshake_seconds
            return partial(_refuse, stream, error.response, seconds)
        serve = connection.serve if refusal is None else partial(_serve_briefly, connection.serve)
        return partial(_continue, stream, serve) if head.expects_continue else serve

    def _note_bad_head(self, address: str, error: HeadError) -> None:
        why = _REASON_OF_RESPONSE.get(error.response, RefusalReason.BAD_HEAD)
        self._services.refusals.note(why, address, event="bad request", reason=str(error))

    def begin_stop(self) -> None:
        """Close the connections that have not sent a request yet."""
        self._is_stopping = True
        for scope in self._waiting_for_head:
            scope.cancel()

    async def _read_head(self, stream: ByteStream) -> Head | None:
        max_bytes, timeout_seconds = self._settings.head_bytes, self._settings.head_seconds
        return await self._until_stop(
            partial(read_head, stream, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
        )

    async def _until_stop(self, read: Callable[[], Awaitable[T]]) -> T | None:
        """Read what comes before a request is there; None if the server stops meanwhile."""
        with trio.CancelScope() as scope:
            self._waiting_for_head.add(scope)
            if self._is_stopping:
                scope.cancel()
            try:
                return await read()
            finally:
                self._waiting_for_head.discard(scope)
        return None


async def _serve_briefly(serve: Handler) -> None:
    """Serve a connection that is one too many, also on a connection on which requests were answered before."""
    with trio.move_on_after(REFUSAL_SECONDS):
        await serve()


async def _continue(stream: trio.abc.SendStream, serve: Handler) -> None:
    """Send 100 before 101, as RFC 9110 section 7.8 has it."""
    with trio.move_on_after(REFUSAL_SECONDS) as waiting:
        await stream.send_all(CONTINUE)
    if not waiting.cancelled_caught:
        await serve()


async def _refuse(stream: ByteStream, response: bytes, timeout_seconds: float = REFUSAL_SECONDS) -> None:
    """Answer, and close so that the answer arrives."""
    careful = ReplayStream(stream, b"")
    if response:
        with trio.move_on_after(timeout_seconds):
            await careful.send_all(response)
    await careful.aclose()
