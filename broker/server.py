"""The composition root: puts the parts together, owns their nurseries, and takes them down in order."""

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import attrs
import trio
from hypercorn.typing import ASGIFramework

from broker.auth.bearer import ApiKey
from broker.auth.permissions import RoomPolicy
from broker.auth.tokens import open_verifier
from broker.clocks import boot_clock
from broker.config.check import with_normal_origins
from broker.config.problems import refuse
from broker.config.settings import Settings
from broker.drain import plan_departures
from broker.engine.open import open_engine
from broker.errors import CloseCode, StoppedAtOnceError
from broker.garbage import collecting_seldom, run_collector
from broker.http.app import create_app
from broker.http.busiest import Looks
from broker.http.node import this_node
from broker.http.questions import NodeAnswers
from broker.http.services import HttpServices
from broker.http.serving import open_http
from broker.http.siblings import Siblings
from broker.http.traffic import Traffic, TrafficMeter, run_traffic
from broker.last_resort import last_resort
from broker.log import Log
from broker.log.stdlib import open_stdlib_log
from broker.metrics import open_metrics
from broker.model import Draft, IdempotencyKey, WallClock, check_room_name
from broker.portable import encode
from broker.preflight import find_problems
from broker.protocol.commands import CommandDecoder
from broker.protocol.content import notifier_content
from broker.refusals import Refusals
from broker.rooms.directory import Rooms, open_rooms
from broker.rooms.messages import Published
from broker.sessions.directory import Connections
from broker.sessions.keeper import run_keeper
from broker.sessions.session import SessionServices
from broker.signals import handling_signals
from broker.transport.admission import Admission
from broker.transport.connection import ConnectionServices
from broker.transport.descriptors import connections_possible, raise_limit
from broker.transport.flusher import open_flusher
from broker.transport.frames import WebSocketCodec
from broker.transport.listening import open_listeners, url_of
from broker.transport.port import Port
from broker.transport.pump import open_pump

DRAIN_GRACE_SECONDS = 2.5
"""How long after the drain window connections may take to close; what comes after has the rest of the 5 s."""

FORCE_SECONDS = 4.5
"""How long after the drain window the process is ended whatever it does; the rest of the 5 s is for the log."""

AT_ONCE_SECONDS = 1.0
"""How long the process may take to end after a second signal."""

KEEPER_SECONDS = 1.0

COLLECTOR_SECONDS = 1.0


@attrs.frozen
class BrokerStatistics:
    """A snapshot of a broker."""

    connections: int
    """Authenticated WebSocket connections and event streams."""
    sockets: int
    """Open connections of any kind."""
    sockets_closed: int
    """Connections of any kind that have ended."""
    is_draining: bool
    appends_waiting: int
    """What the engine was given to store and has not stored yet."""


class Broker:
    """Rooms that a program can serve on a port and speak into; made by `open_broker`."""

    def __init__(
        self, services: ConnectionServices, http: HttpServices, draining: trio.Event, random: Random
    ) -> None:
        self._services = services
        self._http = http
        self._draining = draining
        self._random = random
        settings = services.sessions.settings
        most = min(settings.limits.connections, connections_possible())
        self._admission = Admission(most, settings.limits.connections_per_address)

    @property
    def settings(self) -> Settings:
        """The settings it was opened with."""
        return self._services.sessions.settings

    @property
    def rooms(self) -> Rooms:
        """The rooms of this node."""
        return self._services.sessions.rooms

    @property
    def connections(self) -> Connections:
        """The open connections of this node."""
        return self._services.connections

    async def publish(
        self,
        room: str,
        message: dict[str, object],
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
    ) -> Published:
        """Say `message`, a JSON object with a `type` of its own, in a room.

        Returns once it is in the engine and on its way to the members. If cancelled, it may or may not be
        said; repeat it with the same `idempotency_key` to have it said once.

        NaN and infinities are said as null.

        :raises Refused: if the room's name or the message is not allowed; see broker.portable.
        :raises TypeError: if the message holds what has no JSON form.
        :raises EngineUnavailableError: if it was not stored.
        """
        key = None if idempotency_key is None else IdempotencyKey("http", idempotency_key)
        content = notifier_content(encode(message))
        return await self.rooms.publish(check_room_name(room), Draft(content, ephemeral, key))

    def begin_drain(self) -> None:
        """Let `serve` send its clients away and return; see `serve`."""
        self._draining.set()

    def statistics(self) -> BrokerStatistics:
        """Return a snapshot."""
        return BrokerStatistics(
            connections=len(self.connections),
            sockets=len(self._admission),
            sockets_closed=self._admission.left,
            is_draining=self._draining.is_set(),
            appends_waiting=self._http.engine.statistics().waiting,
        )

    def count_alive(self) -> int:
        """Return how many connections and rooms there are."""
        return len(self._admission) + self.rooms.statistics().rooms

    def count_ended(self) -> int:
        """Return how many connections and rooms there were that are gone."""
        registry = self.rooms.statistics().registry
        return self._admission.left + registry.started - registry.actors

    async def serve(
        self,
        *,
        app: ASGIFramework | None = None,
        listeners: list[trio.SocketListener] | None = None,
        on_listening: Callable[[str], None] = lambda _url: None,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve WebSockets and HTTP on the configured port until `begin_drain`, then drain, then return.

        `app` is a Quart-trio (or other ASGI) application that gets all HTTP requests but those for the
        broker's own paths. `listeners`, of TCP or Unix sockets, are used instead of the configured host and port.
        `on_listening` is given the address, as is the task status.

        Draining (at most `server.drain_seconds` and a few seconds more): no new connections; every client is
        told `reconnect` with its own delay and closed with 1012 after it; what waits for them is written.

        If cancelled, all connections are closed at once.

        :raises OSError: if the port cannot be had; its text names host and port.
        """
        settings = self.settings
        if listeners is None:
            listeners = await open_listeners(settings.server)
        async with (
            _closing(listeners),
            open_http(
                create_app(self._http),
                settings.http,
                self._services.log,
                beside=app,
                refusals=self._services.refusals,
            ) as http,
            trio.open_nursery() as helpers,
        ):
            # A write that hypercorn shields from cancellation must not outlive it.
            helpers.start_soon(_call_at_last, http.abort)
            if self._http.siblings is not None:
                await helpers.start(_answer_siblings, self._http.siblings, self._http)
            port = Port(self._services, self._admission, settings.http, http.serve)
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(trio.serve_listeners, port.serve, listeners, handler_nursery=nursery)
                    )
                    url = url_of(settings.server, listeners[0].socket.getsockname())
                    on_listening(url)
                    task_status.started(url)
                    await self._draining.wait()
                    # Closes the listeners.
                    accepting.cancel_scope.cancel()
                window_seconds = settings.server.drain_seconds
                give_up_at = trio.current_time() + window_seconds + DRAIN_GRACE_SECONDS
                nursery.cancel_scope.deadline = give_up_at
                # Hypercorn shields its writes from cancellation.
                helpers.start_soon(_call_at, give_up_at, http.abort)
                port.begin_stop()
                http.begin_stop()
                await self._send_away(window_seconds)
            helpers.cancel_scope.cancel()

    async def _send_away(self, window_seconds: float) -> None:
        """Tell every client to come back later, and close each when its delay is over."""
        connections = list(self.connections)
        self._services.log.info("draining", connections=len(connections), window_seconds=window_seconds)
        started = trio.current_time()
        departures = list(
            zip(plan_departures(len(connections), window_seconds, self._random), connections, strict=True)
        )
        for delay, connection in departures:
            connection.tell_reconnect(int(delay * 1000))
        for delay, connection in sorted(departures, key=lambda departure: departure[0]):
            with trio.move_on_at(started + delay):
                await self.connections.wait_empty()
            connection.disconnect(CloseCode.SERVICE_RESTART, "service restart")


@asynccontextmanager
async def _closing(listeners: list[trio.SocketListener]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for listener in listeners:
            listener.socket.close()


async def _answer_siblings(
    siblings: Siblings, http: HttpServices, *, task_status: trio.TaskStatus[None]
) -> None:
    try:
        await siblings.serve(NodeAnswers(http).answer, task_status=task_status)
    except OSError as error:
        # As when somebody has cleaned up: nobody's messages depend on it.
        http.log.warning("no answers for other workers", exc_info=error)
        task_status.started()


async def _call_at_last(call: Callable[[], None]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        call()


async def _call_at(deadline: float, call: Callable[[], None]) -> None:
    await trio.sleep_until(deadline)
    call()


def _close_user(connections: Connections, user_id: str) -> None:
    """Do here what another node was asked to do everywhere."""
    connections.disconnect_user(user_id, CloseCode.REMOVED, "removed by the application")


@asynccontextmanager
async def open_broker(
    settings: Settings,
    *,
    log: Log | None = None,
    wall_clock: WallClock = time.time,
    random: Random | None = None,
    siblings: Siblings | None = None,
    dev: bool = False,
) -> AsyncIterator[Broker]:
    """Open a broker inside any trio program; leaving the block stops its rooms and flushes its engine.

    `siblings` are the other workers of this machine, if it is one of several.
    With `dev`, weak secrets are let through, and the API makes client tokens. An exception of the block comes out as
    it is, unless the broker fails as well.

    :raises ConfigurationError: if a key, a file or the engine cannot be used.
    """
    failure: BaseException | None = None
    random = random or Random()  # noqa: S311  # spreads load, keeps no secret
    parts = _open_parts(settings, log, wall_clock, random, siblings, dev=dev)
    try:
        async with parts as broker:
            try:
                yield broker
            except BaseException as error:
                failure = error
                raise
    except BaseExceptionGroup as group:
        # The nurseries of the parts each make a group of it.
        if failure is None or not _is_only(group, failure):
            raise
    else:
        return
    raise failure


def _is_only(group: BaseException, one: BaseException) -> bool:
    """Whether there is nothing in `group`, however wrapped, but `one`."""
    # A nursery that is cancelled takes groups apart and puts them together anew.
    return [id(error) for error in _leaves(group)] == [id(error) for error in _leaves(one)]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


@asynccontextmanager
async def _open_log(log: Log | None) -> AsyncIterator[Log]:
    """Give the log of the program, or one on its logging that cannot stop the loop."""
    if log is not None:
        yield log
        return
    async with open_stdlib_log() as own_log:
        yield own_log


@asynccontextmanager
async def _open_parts(
    settings: Settings,
    given_log: Log | None,
    wall_clock: WallClock,
    random: Random,
    siblings: Siblings | None,
    *,
    dev: bool,
) -> AsyncIterator[Broker]:
    refuse(find_problems(settings, dev=dev))
    settings = with_normal_origins(settings)
    verifier = open_verifier(settings.auth, wall_clock=wall_clock)
    policy = RoomPolicy.from_settings(settings)
    draining = trio.Event()
    connections = Connections(settings.limits.connections_per_user)
    async with (
        _open_log(given_log) as log,
        open_engine(settings, wall_clock=wall_clock, boot_clock=boot_clock, log=log) as engine,
        open_rooms(settings, engine, log) as rooms,
        open_pump() as pump,
        open_flusher() as flusher,
        trio.open_nursery() as nursery,
    ):
        if engine.presence is not None:
            engine.presence.on_close_user(lambda user_id: _close_user(connections, user_id))
        nursery.start_soon(partial(run_keeper, connections, wall_clock, interval_seconds=KEEPER_SECONDS))
        traffic, looks = Traffic(), Looks()
        nursery.start_soon(run_traffic, traffic, looks, TrafficMeter(rooms, connections, wall_clock).read)
        sessions = SessionServices(settings, rooms, policy, verifier, CommandDecoder())
        refusals = Refusals(log)
        services = ConnectionServices(
            sessions, connections, WebSocketCodec(), log, draining.is_set, flusher, pump, refusals
        )
        http = HttpServices(
            settings=settings,
            rooms=rooms,
            connections=connections,
            engine=engine,
            verifier=verifier,
            policy=policy,
            api_key=ApiKey(settings.http.api_key or ""),
            metrics_key=_metrics_key(settings),
            wall_clock=wall_clock,
            log=log,
            is_draining=draining.is_set,
            metrics=open_metrics(rooms, connections, engine, refusals, log),
            node=this_node(settings.server.node_name, 0 if siblings is None else siblings.worker),
            siblings=siblings,
            traffic=traffic,
            looks=looks,
            allowances=sessions.allowances,
            is_dev=dev,
            refusals=refusals,
        )
        if engine.cluster is not None:
            engine.cluster.on_question(NodeAnswers(http).answer)
        yield Broker(services, http, draining, random)
        nursery.cancel_scope.cancel()


def _metrics_key(settings: Settings) -> ApiKey | None:
    key = settings.http.metrics_key
    return None if key is None else ApiKey(key, setting="http.metrics_key (GREENROOM_METRICS_KEY)")


async def run_server(
    settings: Settings,
    *,
    make_app: Callable[[Broker], ASGIFramework | None] = lambda _broker: None,
    log: Log | None = None,
    on_listening: Callable[[str], None] = lambda _url: None,
    listeners: list[trio.SocketListener] | None = None,
    siblings: Siblings | None = None,
    dev: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return: all of a program whose rooms are in its own process.

    A signal that comes while the broker is still being opened ends that. SIGHUP is logged and ends nothing. If the
    drain takes 5 s more than its window, or anything is left a second after a second signal, the whole process is
    ended with status 1, whatever it does.

    `make_app` is given the broker, to publish with, and returns an application. That, `listeners` and `on_listening`
    are as for `Broker.serve`, and `siblings` as for `open_broker`.

    :raises StoppedAtOnceError: if a second signal cut the drain short.
    :raises ConfigurationError: if the broker cannot be opened as configured.
    :raises OSError: if the port cannot be had.
    """
    async with _open_log(log) as own_log:
        await _run_server(settings, make_app, own_log, on_listening, listeners, siblings=siblings, dev=dev)


async def _run_server(
    settings: Settings,
    make_app: Callable[[Broker], ASGIFramework | None],
    log: Log,
    on_listening: Callable[[str], None],
    listeners: list[trio.SocketListener] | None,
    *,
    siblings: Siblings | None,
    dev: bool,
) -> None:
    raise_limit()
    # Before the nurseries, so that a port in use is raised as what it is.
    listeners = listeners or await open_listeners(settings.server)
    stop = _Stop(log)
    with (
        last_resort(
            log,
            drain_seconds=settings.server.drain_seconds + FORCE_SECONDS,
            at_once_seconds=AT_ONCE_SECONDS,
            is_flushed=stop.is_flushed,
        ),
        handling_signals(stop.handle),
        stop.everything,
        collecting_seldom(),
    ):
        async with _closing(listeners), open_broker(settings, log=log, siblings=siblings, dev=dev) as broker:
            stop.broker = broker
            app = make_app(broker)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    partial(
                        run_collector,
                        broker.count_alive,
                        broker.count_ended,
                        interval_seconds=COLLECTOR_SECONDS,
                    )
                )
                tell = partial(_tell_listening, log, settings, on_listening)
                await broker.serve(app=app, listeners=listeners, on_listening=tell)
                nursery.cancel_scope.cancel()
    if stop.is_at_once:
        raise StoppedAtOnceError("stopped at once by a second signal")
    log.info("stopped")


@attrs.define(eq=False)
class _Stop:
    """What signals do to a server: the first drains it, or ends it while it is starting; the second ends it."""

    log: Log
    broker: Broker | None = None
    everything: trio.CancelScope = attrs.Factory(trio.CancelScope)
    is_asked: bool = False
    is_at_once: bool = False

    def is_flushed(self) -> bool:
        """Tell whether the engine has stored what it was given; from any thread."""
        return self.broker is None or not self.broker.statistics().appends_waiting

    def handle(self, number: signal.Signals) -> None:
        """Obey one signal; for `handling_signals`."""
        if number is signal.SIGHUP:
            self.log.info("hangup ignored", reason="the configuration is read at the start only")
            return
        if self.is_asked:
            self.is_at_once = True
            self.everything.cancel()
        elif self.broker is None:
            self.everything.cancel()
        else:
            self.broker.begin_drain()
        self.is_asked = True


def _tell_listening(log: Log, settings: Settings, on_listening: Callable[[str], None], url: str) -> None:
    log.info(
        "listening",
        url=url,
        engine=settings.server.engine.partition("://")[0],
        most_connections=min(settings.limits.connections, connections_possible()),
    )
    on_listening(url)
