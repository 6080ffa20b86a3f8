"""A process that runs one server: its signals, garbage collection and end."""

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Unpack

import attrs
import trio

from broker.assembly import OwnParts, open_broker
from broker.config.settings import Settings
from broker.errors import StoppedAtOnceError
from broker.garbage import rare_collection, run_collector
from broker.http.nodes.siblings import Siblings
from broker.log import Log
from broker.log.stdlib import given_or_stdlib_log
from broker.reloading import Hangups
from broker.server import Broker
from broker.service_manager import NO_MANAGER, READY, STOPPING, ServiceManager
from broker.signals import handling_signals
from broker.transport.descriptors import connections_possible, raise_limit
from broker.transport.listening import closing, open_listeners
from broker.watchdog import watchdog

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

FORCE_SECONDS = 4.5
"""Time after the drain window at which the watchdog ends the process; the rest of the 5 s is for the log."""

AT_ONCE_SECONDS = 1.0
"""Time after a second signal at which the watchdog ends the process."""

COLLECTOR_SECONDS = 1.0


async def run_server(
    settings: Settings,
    *,
    make_app: "Callable[[Broker], ASGIFramework | None]" = lambda _broker: None,
    log: Log | None = None,
    on_listening: Callable[[str], None] = lambda _url: None,
    manager: ServiceManager = NO_MANAGER,
    listeners: list[trio.SocketListener] | None = None,
    siblings: Siblings | None = None,
    dev: bool = False,
    reload: Callable[[], Settings] | None = None,
    until: Callable[[], Awaitable[object]] | None = None,
    **parts: Unpack[OwnParts],
) -> bool:
    """Serve until SIGTERM or SIGINT, then drain and return; the main function of a process that is a server.

    A signal while the broker is being opened cancels that. SIGHUP calls `reload` in a thread, for the
    settings as they are configured now, and takes over what `Broker.reload` can; without it SIGHUP is only logged. If the drain takes 5 s more than its
    window, or the process still runs 1 s after a second signal, a watchdog ends it with status 1.

    `make_app` gets the broker, to publish with, and returns an application. That, `listeners` and `on_listening`
    are as for `Broker.serve`, and `siblings` and `parts` as for `open_broker`. `manager` is told when the
    server serves and when it stops; its sockets are used if there are no `listeners`.

    The server drains, too, when `until` returns, which runs beside it. Returns whether that was so and no signal came.

    :raises StoppedAtOnceError: if a second signal cut the drain short.
    :raises ConfigurationError: if the broker cannot be opened as configured.
    :raises OSError: if the port cannot be had.
    """
    async with given_or_stdlib_log(log) as own_log:
        opening = partial(open_broker, settings, log=own_log, siblings=siblings, dev=dev, **parts)
        return await _run_server(
            settings,
            opening,
            make_app,
            own_log,
            on_listening,
            manager=manager,
            listeners=listeners,
            hangups=Hangups(own_log, reload, log),
            until=until,
        )


async def _run_server(
    settings: Settings,
    opening: Callable[[], AbstractAsyncContextManager[Broker]],
    make_app: "Callable[[Broker], ASGIFramework | None]",
    log: Log,
    on_listening: Callable[[str], None],
    *,
    manager: ServiceManager,
    listeners: list[trio.SocketListener] | None,
    hangups: Hangups,
    until: Callable[[], Awaitable[object]] | None,
) -> bool:
    raise_limit()
    # Before the nurseries, so that the error of a port in use is raised outside any group.
    listeners = listeners or manager.listeners() or await open_listeners(settings.server)
    stop = _Stop(log, hangups, manager)
    with (
        watchdog(
            log,
            drain_seconds=settings.server.drain_seconds + FORCE_SECONDS,
            at_once_seconds=AT_ONCE_SECONDS,
            is_flushed=stop.is_flushed,
        ),
        handling_signals(stop.handle),
        stop.everything,
        rare_collection(),
    ):
        async with closing(listeners), opening() as broker:
            stop.broker = broker
            app = make_app(broker)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hangups.run, broker)
                nursery.start_soon(manager.run_heartbeat)
                if until is not None:
                    nursery.start_soon(_drain_after, until, stop, broker)
                nursery.start_soon(
                    partial(
                        run_collector,
                        broker.count_alive,
                        broker.count_ended,
                        interval_seconds=COLLECTOR_SECONDS,
                    )
                )
                report = partial(_report_listening, log, settings, manager, on_listening)
                await broker.serve(app=app, listeners=listeners, on_listening=report)
                nursery.cancel_scope.cancel()
    if stop.is_at_once:
        raise StoppedAtOnceError("stopped at once by a second signal")
    log.info("stopped")
    return stop.is_over and not stop.is_asked


async def _drain_after(until: Callable[[], Awaitable[object]], stop: "_Stop", broker: Broker) -> None:
    await until()
    stop.is_over = True
    broker.begin_drain()


@attrs.define(eq=False)
class _Stop:
    """The server's reaction to signals: the first drains it, or cancels its start; the second cancels everything."""

    log: Log
    hangups: Hangups
    manager: ServiceManager
    broker: Broker | None = None
    everything: trio.CancelScope = attrs.Factory(trio.CancelScope)
    is_asked: bool = False
    is_over: bool = False
    """Whether the server drains without a signal."""
    is_at_once: bool = False

    def is_flushed(self) -> bool:
        """Whether the engine has no appends waiting; may be called from any thread."""
        return self.broker is None or not self.broker.statistics().appends_waiting

    def handle(self, number: signal.Signals) -> None:
        """Handle one signal; for `handling_signals`."""
        if number is signal.SIGHUP:
            self.hangups.note()
            return
        if not self.is_asked:
            self.manager.notify_nowait(STOPPING)
        if self.is_asked:
            self.is_at_once = True
            self.everything.cancel()
        elif self.broker is None:
            self.everything.cancel()
        else:
            self.broker.begin_drain()
        self.is_asked = True


def _report_listening(
    log: Log, settings: Settings, manager: ServiceManager, on_listening: Callable[[str], None], url: str
) -> None:
    log.info(
        "listening",
        url=url,
        engine=settings.server.engine.partition("://")[0],
        most_connections=min(settings.limits.connections, connections_possible()),
    )
    manager.notify_nowait(READY)
    on_listening(url)
