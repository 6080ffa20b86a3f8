"""Hypercorn's HTTP/1.1 server on one stream. The only place that knows hypercorn's insides (0.18)."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import unquote

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from broker.config.settings import HttpSettings
from broker.errors import RefusalReason
from broker.http.hosting.app_tasks import AppTasks
from broker.http.hosting.fast_path import PostFastPath
from broker.http.hosting.guard import AbortScope
from broker.http.hosting.h11_lines import CheckedConnection
from broker.http.hosting.stream import HttpStream, HttpTransport
from broker.http.refusals import PROXIED_PORT
from broker.log import Log

STARTUP_SECONDS = 10.0
"""How long an application may take to start."""

CLOSE_SECONDS = 2.0
"""How long closing an idle connection may take; the peer has one second of it to end its side."""

PEER_CHECK_SECONDS = 1.0
"""How often the client's end is checked while a pipelined request waits and nothing is read."""

TARGET_TOO_LONG = 414
TOO_LARGE = 431

SHUTDOWN_SECONDS = 1.0
"""How long an application may take to stop, at the end of a drain."""


class HypercornLog:
    """Hypercorn's log as lines of ours, without its access log, whose query strings would hold tokens."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def access(self, *_details: object) -> None:
        """Write nothing."""

    async def warning(self, message: str, *_args: object, **_fields: object) -> None:
        """Pass a warning on."""
        self._log.warning(message)

    async def exception(self, message: str, *_args: object, **_fields: object) -> None:
        """Pass on the exception being handled."""
        self._log.exception(message)


def make_config(settings: HttpSettings, log: Log) -> Config:
    """Return our settings as hypercorn's configuration."""
    config = Config()
    make_log: Callable[[Config], Any] = lambda _config: HypercornLog(log)  # noqa: E731
    config.logger_class = make_log  # type: ignore[assignment]
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.head_bytes
    config.keep_alive_timeout = settings.keep_alive_seconds
    # Hypercorn would close a connection after 1,000 requests, while a notifier posts the next.
    config.keep_alive_max_requests = sys.maxsize
    config.startup_timeout = STARTUP_SECONDS
    config.shutdown_timeout = SHUTDOWN_SECONDS
    # Hypercorn's queue before the application: one read of 64 KiB, so that back pressure reaches the client.
    config.max_app_queue_size = 1
    return config


class StopSign(EventWrapper):
    """Hypercorn's event, with a `set_nowait`."""

    def set_nowait(self) -> None:
        """Set it."""
        self._event.set()


class _CanRead(EventWrapper):
    """Hypercorn's event for reading on, which it waits for while a pipelined request waits for the one before it.

    Nothing is read meanwhile, so the client's end, which an application may wait for, is checked here.
    """

    def __init__(self, has_peer_ended: Callable[[], bool], on_end: Callable[[], None]) -> None:
        super().__init__()
        self._has_peer_ended = has_peer_ended
        self._on_end = on_end

    async def wait(self) -> None:
        """Wait until it is set."""
        # Also where an answer that ended before its request has closed the connection; the reader is being cancelled.
        while not self.is_set() and not self._has_peer_ended():
            with trio.move_on_after(PEER_CHECK_SECONDS):
                await super().wait()
        if not self.is_set():
            self._on_end()
        await super().wait()


class Worker(WorkerContext):
    """The state that all connections of one server share."""

    def __init__(
        self,
        speaks_websocket: Callable[[str], bool],
        on_bad_request: Callable[[RefusalReason, str | None], None] = lambda _why, _address: None,
    ) -> None:
        super().__init__(None)
        self.on_bad_request = on_bad_request
        """Called with the reason and the peer's address when a connection's input is no HTTP any more."""
        self.speaks_websocket = speaks_websocket
        """Whether the application speaks WebSocket at a path."""
        self.stop_sign = StopSign()
        self.terminated = self.stop_sign


class _Handover(Exception):
    """Control flow, no error: another handler serves the connection from a request on."""

    def __init__(self, handler: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.handler = handler


class _Http1(H11Protocol):
    """HTTP/1.1, and WebSockets only where the application speaks them.

    Any other offer of an upgrade is ignored, as a server may (RFC 9110 section 7.8).
    """

    context: Worker

    def __init__(self, *arguments: Any, stream: HttpStream) -> None:
        super().__init__(*arguments)
        self._find_handler = stream.find_handler
        self._find_client = stream.find_client
        self._peer = self.client
        self.connection = CheckedConnection(self.config.h11_max_incomplete_size, stream.check_head)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Find the handler of a request that offers an upgrade; those before it are answered by now.

        h2c is ignored: some clients offer it with every request, and HTTP/2 would evade the limits here.

        :raises _Handover: if it is not for the application.
        """
        offers_upgrade = any(name == b"upgrade" for name, _ in event.headers)
        if not offers_upgrade or self.context.terminated.is_set():
            return
        handler = self._find_handler(_head_of(event) + self.connection.trailing_data[0])
        if handler is not None:
            raise _Handover(handler)

    async def _send_error_response(self, status_code: int) -> None:
        """Refuse a request, with 414 where its target alone is too long (RFC 9112 section 3)."""
        begun, is_at_end = self.connection.trailing_data
        why = _reason(status_code, is_within_content=self.stream is not None, is_at_end=is_at_end)
        if why is not None:
            self.context.on_bad_request(why, None if self.client is None else self.client[0])
        if status_code == TOO_LARGE and b" " in begun and b"\n" not in begun:
            status_code = TARGET_TOO_LONG
        await super()._send_error_response(status_code)

    async def _create_stream(self, request: h11.Request) -> None:
        """Begin a request; it is an ordinary one if no WebSocket is spoken at its path."""
        if self._find_client is not None:
            named = self._find_client(_head_of(request))
            self.client = self._peer if named is None else (named, PROXIED_PORT)
        if any(name == b"upgrade" for name, _ in request.headers):
            path = unquote(request.target.partition(b"?")[0].decode("ascii"))
            is_offered = self.context.speaks_websocket(path)
            request = _with_plain_upgrade(request) if is_offered else _replacing(request, {b"upgrade": None})
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            assert isinstance(self.connection, H11WSConnection)
            # Hypercorn keeps the connection of a WebSocket that it has refused.
            if self.stream.closed or self.connection.buffer:
                await self.send(Closed())

    async def handle(self, event: Event) -> None:
        """Handle input. A client must not send before its handshake is answered (RFC 6455 section 4.1).

        Hypercorn would answer 400, whatever the application is just about to answer.
        """
        stream = self.stream
        is_early = isinstance(stream, WSStream) and not stream.handshake.accepted
        if is_early and isinstance(event, RawData) and event.data:
            await self.send(Closed())
        else:
            await super().handle(event)


def _head_of(request: h11.Request) -> bytes:
    lines = [
        b"%b %b HTTP/%b" % (request.method, request.target, request.http_version),
        *(b"%b: %b" % header for header in request.headers),
    ]
    return b"\r\n".join([*lines, b"", b""])


def _reason(status_code: int, *, is_within_content: bool, is_at_end: bool) -> RefusalReason | None:
    """Return the reason why input was refused; None for an upload that its client broke off."""
    if is_within_content:
        return None if is_at_end else RefusalReason.HTTP
    if status_code == TOO_LARGE:
        return RefusalReason.HEAD_TOO_LARGE
    return RefusalReason.HEAD_CUT_OFF if is_at_end else RefusalReason.BAD_HEAD


def _with_plain_upgrade(request: h11.Request) -> h11.Request:
    """Return a request whose offer of a WebSocket reads as hypercorn expects it: one name in one line.

    Both headers are lists, in any number of lines and with empty members (RFC 9110 sections 5.6.1.2, 7.6.1 and 7.8).
    """
    upgrade, connection = (
        b",".join(value for name, value in request.headers if name == wanted)
        for wanted in (b"upgrade", b"connection")
    )
    if b"websocket" not in (member.strip() for member in upgrade.lower().split(b",")):
        return request
    return _replacing(request, {b"connection": connection, b"upgrade": b"websocket"})


def _replacing(request: h11.Request, values: Mapping[bytes, bytes | None]) -> h11.Request:
    """Return a request with other values of some headers; None leaves a header out."""
    others = [(name, value) for name, value in request.headers if name not in values]
    return h11.Request(
        method=request.method,
        target=request.target,
        headers=[*others, *((name, value) for name, value in values.items() if value is not None)],
        http_version=request.http_version,
    )


class Http1Server(TCPServer):
    """Serves one connection, to its end or until the fast path can go on; made and run once."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        worker: Worker,
        state: LifespanState,
        *,
        stream: HttpStream,
        transport: HttpTransport,
        abort_scope: AbortScope,
        fast_path: PostFastPath | None = None,
    ) -> None:
        """`stream` is over `transport`. `fast_path` is the one that has put back the first request."""
        super().__init__(app, config, worker, state, stream)  # type: ignore[arg-type]
        self._abort_scope = abort_scope
        self._reading = trio.CancelScope()
        self._tasks = AppTasks(on_websocket_end=partial(self.protocol_send, Closed()))
        self._transport = transport
        self._http_stream = stream
        self._is_read_out = False
        self._fast_path = fast_path
        self._idle_until = None if fast_path is None else fast_path.idle_until
        self.is_left_to_fast_path = False
        """Whether `run` has returned so that the fast path goes on; the connection is closed otherwise."""

    async def run(self) -> None:
        """Serve the connection, without HTTP/2; see hypercorn's TCPServer.run."""
        try:
            client, server = self._transport.endpoints()
        except OSError:
            # Gone before its addresses were asked for.
            return
        task_group = self._tasks
        async with task_group:
            self._task_group = task_group
            self.protocol = _Http1(  # type: ignore[assignment]
                self.app,
                self.config,
                self.context,
                task_group,
                ConnectionState(self.state),
                self._transport.is_tls,
                client,
                server,
                self.protocol_send,
                stream=self._http_stream,
            )
            self.protocol.can_read = _CanRead(self._transport.has_peer_ended, task_group.hang_up)  # type: ignore[attr-defined]
            await self.idle_task.restart(task_group, self._idle_timeout)
            handler = await self._read_requests()
            self._is_read_out = True
            task_group.hang_up()
            await self.idle_task.stop()
            if handler is None and isinstance(self.protocol.connection, H11WSConnection):  # type: ignore[attr-defined]
                # The application may run on for long without a client.
                await self._close()
            if handler is not None:
                # Here, because the application may still run after its last answer.
                del self.protocol
                await handler()
        if handler is None and not self.is_left_to_fast_path:
            await self._close()

    async def _read_requests(self) -> Callable[[], Awaitable[None]] | None:
        """Serve requests until there are no more; returns the handler that serves the connection from then on, if any."""
        try:
            with self._reading:
                await self._read_data()
        except _Handover as handover:
            return handover.handler
        return None

    async def _read_data(self) -> None:
        """Read until the end, as hypercorn's TCPServer does, or until a request that is for the fast path."""
        while True:
            try:
                data = bytes(await self._http_stream.receive_some(MAX_RECV))
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            fast_path = self._fast_path
            if fast_path is not None and self._is_between_requests() and fast_path.recognizes(data):
                self._transport.put_back(data)
                self.is_left_to_fast_path = True
                return
            await self.protocol.handle(RawData(data))
            if not data:
                break
        await self.protocol.handle(Closed())

    def _is_between_requests(self) -> bool:
        """Whether a request was answered, and nothing of it or of another is left."""
        protocol = cast("_Http1", self.protocol)
        connection = protocol.connection
        return (
            protocol.keep_alive_requests > 0
            and protocol.stream is None
            and connection.our_state is h11.IDLE
            and connection.their_state is h11.IDLE
            and not connection.trailing_data[0]
            and not self._tasks.is_busy
        )

    async def protocol_send(self, event: Event) -> None:
        """Handle an event of the protocol. Hypercorn would keep a closed connection for the idle time."""
        if not (self._is_read_out and isinstance(event, Updated)):
            await super().protocol_send(event)
        if isinstance(event, Closed):
            self._stop_reading()

    async def _idle_timeout(self) -> None:
        """Close the connection when it was idle for too long; hypercorn shields that without a deadline."""
        idle_until, self._idle_until = self._idle_until, None
        if idle_until is None:
            idle_until = trio.current_time() + self.config.keep_alive_timeout
        with trio.move_on_at(idle_until):
            await self.context.terminated.wait()
        with self._abort_scope.shield(CLOSE_SECONDS):
            await self._initiate_server_close()
        self._stop_reading()

    def _stop_reading(self) -> None:
        """Stop reading, as the connection is closed."""
        self._tasks.disconnect()
        self._reading.cancel()
