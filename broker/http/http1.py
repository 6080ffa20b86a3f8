"""Hypercorn's HTTP/1.1 server on one stream. The only place that knows hypercorn's insides (0.18)."""

import sys
from collections.abc import Callable
from typing import Any

import h11
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from broker.config.settings import HttpSettings
from broker.http.stream import HttpStream
from broker.log import Log

STARTUP_SECONDS = 10.0
"""How long an application may take to start."""

SHUTDOWN_SECONDS = 1.0
"""How long it may take to stop: it does so at the end of a drain, which has little time left by then."""


class HypercornLog:
    """What hypercorn logs, as lines of our log. Its access log would hold query strings, and so tokens."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def access(self, *_details: object) -> None:
        """Say nothing."""

    async def warning(self, message: str, *_args: object, **_fields: object) -> None:
        """Pass a warning on."""
        self._log.warning(message)

    async def exception(self, message: str, *_args: object, **_fields: object) -> None:
        """Pass on the exception being handled."""
        self._log.exception(message)


def make_config(settings: HttpSettings, log: Log) -> Config:
    """Return hypercorn's view of our settings."""
    config = Config()
    make_log: Callable[[Config], Any] = lambda _config: HypercornLog(log)  # noqa: E731
    config.logger_class = make_log  # type: ignore[assignment]
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.head_bytes
    config.keep_alive_timeout = settings.keep_alive_seconds
    # Hypercorn would close a connection after 1,000 requests, under the hands of a notifier that posts the next.
    config.keep_alive_max_requests = sys.maxsize
    config.startup_timeout = STARTUP_SECONDS
    config.shutdown_timeout = SHUTDOWN_SECONDS
    # Hypercorn's queue before the application: one read of 64 KiB, so that back pressure reaches the client.
    config.max_app_queue_size = 1
    return config


class StopSign(EventWrapper):
    """Hypercorn's event, which can also be set without await."""

    def set_nowait(self) -> None:
        """Set it."""
        self._event.set()


class Worker(WorkerContext):
    """What the connections of one server share."""

    def __init__(self) -> None:
        super().__init__(None)
        self.stop_sign = StopSign()
        self.terminated = self.stop_sign


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Go on in HTTP/1.1 whatever upgrade is offered, as a server may (RFC 9110 section 7.8).

        Some clients offer h2c with every request, and an HTTP/2 connection would pass by the limits here.
        """


class Http1Server(TCPServer):
    """Serves one connection; made and run once."""

    def __init__(
        self, app: AppWrapper, config: Config, worker: Worker, state: LifespanState, *, stream: HttpStream
    ) -> None:
        super().__init__(app, config, worker, state, stream)  # type: ignore[arg-type]
        self._socket: Any = stream.socket
        self._is_read_out = False

    async def run(self) -> None:
        """Serve to the end, without TLS and without HTTP/2; see hypercorn's TCPServer.run."""
        try:
            family = self._socket.family
            client = parse_socket_addr(family, self._socket.getpeername())
            server = parse_socket_addr(family, self._socket.getsockname())
        except OSError:
            # Gone before its addresses were asked for.
            return
        async with TaskGroup() as task_group:
            self._task_group = task_group
            self.protocol = _Http1(  # type: ignore[assignment]
                self.app,
                self.config,
                self.context,
                task_group,
                ConnectionState(self.state),
                False,  # no TLS
                client,
                server,
                self.protocol_send,
            )
            await self.idle_task.restart(task_group, self._idle_timeout)
            await self._read_data()
            self._is_read_out = True
            await self.idle_task.stop()
        await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Take what the protocol wants done. Hypercorn would keep a connection that is gone for the idle time."""
        if not (self._is_read_out and isinstance(event, Updated)):
            await super().protocol_send(event)
