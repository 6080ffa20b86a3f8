"""The one port: reads each connection's request head and hands the connection to WebSocket or HTTP."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from broker.config.settings import HttpSettings
from broker.errors import CloseCode, Disconnect, RefusalReason
from broker.transport.admission import Admission, Verdict
from broker.transport.connection import ConnectionServices, ServedConnection, parse_destination
from broker.transport.head import OVERLOADED, TIMED_OUT, TOO_LARGE, TOO_MANY, Head, HeadError, read_head
from broker.transport.listening import peer_address
from broker.transport.streams import ReplayStream

REFUSAL_SECONDS = 1.0
"""How long writing an error response may take."""

_REASON_OF_RESPONSE = {
    TIMED_OUT: RefusalReason.HEAD_TIMEOUT,
    TOO_LARGE: RefusalReason.HEAD_TOO_LARGE,
    b"": RefusalReason.HEAD_CUT_OFF,
}


class Port:
    """Serves accepted connections; nothing that happens in one is raised."""

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
        self._is_stopping = False
        self._waiting_for_head: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; for trio.serve_listeners."""
        try:
            address = peer_address(stream.socket.getpeername())
        except OSError:
            # Reset before it was looked at.
            await trio.aclose_forcefully(stream)
            return
        await self.serve_stream(stream, address)

    async def serve_stream(self, stream: trio.abc.HalfCloseableStream, address: str) -> None:
        """Serve any stream as a connection from `address`."""
        verdict = self._admission.enter(address)
        try:
            handle = await self._find_handler(stream, address, verdict)
            await handle()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer has gone; there is nobody to tell.
            pass
        except* Exception:
            # Also out of a group with a cancellation, which goes on.
            self._services.log.exception("connection failed", address=address)
        finally:
            self._admission.leave(address)
            await trio.aclose_forcefully(stream)

    async def _find_handler(
        self, stream: trio.abc.HalfCloseableStream, address: str, verdict: Verdict
    ) -> Callable[[], Awaitable[None]]:
        """Read the head and return what is to be done. No frame keeps the head alive as long as the connection."""
        if verdict is Verdict.NODE_FULL:
            self._services.refusals.note(RefusalReason.NODE_FULL, address)
            return partial(_refuse, stream, OVERLOADED)
        try:
            head = await self._read_head(stream)
        except HeadError as error:
            why = _REASON_OF_RESPONSE.get(error.response, RefusalReason.BAD_HEAD)
            self._services.refusals.note(why, address, event="bad request", reason=str(error))
            return partial(_refuse, stream, error.response)
        if head is None:
            return partial(trio.aclose_forcefully, stream)
        destination = parse_destination(head.path, head.query) if head.is_websocket else None
        if destination is not None:
            refusal = None
            if verdict is Verdict.ADDRESS_FULL:
                refusal = Disconnect(
                    CloseCode.TOO_MANY,
                    "too many connections of this address",
                    why=RefusalReason.ADDRESS_FULL,
                )
            return ServedConnection(
                self._services, stream, head, destination, address=address, refusal=refusal
            ).serve
        if verdict is Verdict.ADDRESS_FULL:
            self._services.refusals.note(RefusalReason.ADDRESS_FULL, address)
            return partial(_refuse, stream, TOO_MANY)
        return partial(self._serve_http, ReplayStream(stream, head.raw))

    def begin_stop(self) -> None:
        """Let go of the connections that have not asked for anything yet."""
        self._is_stopping = True
        for scope in self._waiting_for_head:
            scope.cancel()

    async def _read_head(self, stream: trio.abc.HalfCloseableStream) -> Head | None:
        with trio.CancelScope() as scope:
            self._waiting_for_head.add(scope)
            if self._is_stopping:
                scope.cancel()
            try:
                return await read_head(
                    stream,
                    max_bytes=self._settings.head_bytes,
                    timeout_seconds=self._settings.head_seconds,
                )
            finally:
                self._waiting_for_head.discard(scope)
        return None


async def _refuse(stream: trio.abc.HalfCloseableStream, response: bytes) -> None:
    """Answer, and close so that the answer arrives."""
    careful = ReplayStream(stream, b"")
    if response:
        with trio.move_on_after(REFUSAL_SECONDS):
            await careful.send_all(response)
    await careful.aclose()
