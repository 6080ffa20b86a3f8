"""The public Broker: publishes in rooms, and serves them on a port until it is drained."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from broker.auth.tokens import open_verifier
from broker.config.check import with_normal_origins
from broker.config.reload import ReloadPlan, plan_reload
from broker.config.settings import Settings
from broker.drain import disconnect_in_time, plan_disconnects
from broker.errors import CloseCode
from broker.http.late import HttpHost, open_late
from broker.http.nodes.questions import NodeAnswers
from broker.http.nodes.siblings import Siblings
from broker.http.probes import ProbeAnswers
from broker.http.services import HttpServices
from broker.model import Draft, IdempotencyKey, check_room_name
from broker.portable_json import encode
from broker.protocol.content import choosing_header, notifier_content
from broker.protocol.tags import check_excluded, check_tags
from broker.rooms.directory import Rooms
from broker.rooms.messages import Published
from broker.sessions.connections import Connections
from broker.transport.accepting import EagerListener
from broker.transport.admission import Admission, AdmissionLimits, admission_limits
from broker.transport.connection import ConnectionServices
from broker.transport.descriptors import connections_possible
from broker.transport.listening import closing, open_listeners, url_of
from broker.transport.port import Port

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

    from broker.http.app import GreenroomApp

DRAIN_GRACE_SECONDS = 2.5
"""Time after the drain window for connections to close; later steps have the rest of the 5 s."""

_RECONNECTS_AT_ONCE = 256
"""Clients that are told of a drain in one turn of the scheduler."""


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
    """Appends that the engine has not stored yet."""


class Broker:
    """A node's rooms, to publish in and to serve on a port; made by `broker.assembly.open_broker`."""

    def __init__(
        self, services: ConnectionServices, http: HttpServices, draining: trio.Event, random: Random
    ) -> None:
        self._services = services
        self._http = http
        self._draining = draining
        self._random = random
        settings = services.sessions.settings
        self._admission = Admission(*_admission_limits(settings))
        http.client_places = self._admission

    @property
    def settings(self) -> Settings:
        """The settings it was opened with, and those that a reload has taken over."""
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
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> Published:
        """Publish `message`, a JSON object with a `type` of its own, in a room.

        `tags` are for members that joined with a filter. The connections of `exclude_user`, and the connection with the
        id `exclude_connection`, do not get it.

        Returns once it is in the engine and on its way to the members. If cancelled, it may or may not be
        published; repeat the call with the same `idempotency_key` to publish it once.

        NaN and infinities become null.

        :raises Refused: if the room's name, the tags or the message is not allowed; see broker.portable_json.
        :raises TypeError: if the message holds a value that has no JSON form.
        :raises EngineUnavailableError: if it was not stored.
        """
        key = None if idempotency_key is None else IdempotencyKey("http", idempotency_key)
        content, header = notifier_content(encode(message))
        excluded = check_excluded(exclude_user, exclude_connection)
        header = choosing_header(header, check_tags(tags), excluded)
        return await self.rooms.publish(check_room_name(room), Draft(content, ephemeral, key, header))

    def reload(self, changed: Settings) -> ReloadPlan:
        """Take over what can be changed while serving; reads the files of keys and certificates, blocking.

        Secrets and keys hold from now on, also for connections that replace their token; limits and `websocket` hold for
        new connections. Nothing ends a connection.

        :raises ConfigurationError: if a key or the certificate cannot be used; nothing is changed then.
        """
        plan = plan_reload(self.settings, changed)
        settings = with_normal_origins(plan.settings)
        http, sessions = self._http, self._services.sessions
        verifier = open_verifier(
            settings.auth,
            wall_clock=http.wall_clock,
            remote=http.remote_keys,
            revocations=http.revoked,
            keeps_payload=sessions.hooks is not None,
        )
        if self._services.tls is not None:
            self._services.tls.reload(settings.server)
        keys = settings.http
        http.api_keys.replace(keys)
        if http.metrics_key is not None and keys.metrics_key is not None:
            http.metrics_key.replace(keys.metrics_key, keys.previous_metrics_key or None)
        for services in (http, sessions):
            services.settings, services.verifier = settings, verifier
        http.remote_keys.keep(verifier.sources)
        sessions.allowances.set_limits(settings)
        self.connections.limit_users(settings.limits.connections_per_user)
        self.connections.backlog.set_limit(settings.limits.outbox_total_bytes)
        self._admission.set_limits(*_admission_limits(settings))
        return plan

    def begin_drain(self) -> None:
        """Let `serve` disconnect its clients and return; see `serve`."""
        self._draining.set()

    def statistics(self) -> BrokerStatistics:
        """Return a snapshot."""
        return BrokerStatistics(
            connections=len(self.connections),
            sockets=len(self._admission),
            sockets_closed=self._admission.ended_count,
            is_draining=self._draining.is_set(),
            appends_waiting=self._http.engine.statistics().waiting,
        )

    def count_alive(self) -> int:
        """Return the number of present connections and rooms."""
        return len(self._admission) + self.rooms.statistics().rooms

    def count_ended(self) -> int:
        """Return the number of ended connections and rooms."""
        registry = self.rooms.statistics().registry
        return self._admission.ended_count + registry.started - registry.actors

    async def serve(
        self,
        *,
        app: "ASGIFramework | None" = None,
        listeners: list[trio.SocketListener] | None = None,
        on_listening: Callable[[str], None] = lambda _url: None,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve WebSockets and HTTP on the configured port until `begin_drain`, then drain, then return.

        `app` is a Quart-trio (or other ASGI) application that gets all HTTP requests but those for the
        broker's own paths. `listeners`, of TCP or Unix sockets, are used instead of the configured host and port.
        `on_listening` is called with the address, as is `task_status.started`.

        Draining (at most `server.drain_seconds` and a few seconds more): no new connections; every client is
        sent `reconnect` with its own delay and closed with 1012 after it, behind its waiting frames.

        If cancelled, all connections are closed at once.

        :raises OSError: if the port cannot be bound; its text names host and port.
        """
        settings = self.settings
        if listeners is None:
            listeners = await open_listeners(settings.server)
        async with (
            closing(listeners),
            self._open_http(app) as http,
            trio.open_nursery() as helpers,
        ):
            # A write that hypercorn shields from cancellation must not outlive it.
            helpers.start_soon(_call_when_cancelled, http.abort)
            if self._http.siblings is not None:
                await helpers.start(_answer_siblings, self._http.siblings, self._http)
            port = Port(self._services, self._admission, settings.http, http.serve)
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as accepting:
                    eager = [EagerListener(listener) for listener in listeners]
                    accepting.start_soon(
                        partial(trio.serve_listeners, port.serve, eager, handler_nursery=nursery)
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
                await self._disconnect_all(window_seconds)
            helpers.cancel_scope.cancel()

    @asynccontextmanager
    async def _open_http(self, app: "ASGIFramework | None") -> "AsyncIterator[HttpHost]":
        """Open the HTTP side; with `app` at once, as a program with one has imported what that needs."""
        if app is not None:
            async with self._open_host(app) as host:
                yield host
            return
        answers, write_seconds = ProbeAnswers(self._http), self.settings.http.request_seconds
        async with open_late(answers, self._open_host, write_seconds=write_seconds) as late:
            yield late

    @asynccontextmanager
    async def _open_host(self, app: "ASGIFramework | None" = None) -> AsyncIterator[HttpHost]:
        settings = self.settings
        # A stop does not wait for the imports, which may take seconds on a busy machine.
        ours = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)
        from broker.http.hosting.serving import open_http  # noqa: PLC0415  # imported by the line above

        async with open_http(
            ours,
            settings.http,
            self._services.log,
            beside=app,
            refusals=self._services.refusals,
            posts=ours.plain_posts,
            needs_client_certificate=settings.server.tls_client_ca_file is not None,
        ) as http:
            yield http

    def _load(self) -> "GreenroomApp":
        """Return our application, and import what a server begins without; blocks for some tenths of a second."""
        import broker.http.hosting.serving  # noqa: PLC0415
        import broker.transport.slow_path  # noqa: F401, PLC0415
        from broker.http.app import create_app  # noqa: PLC0415

        return create_app(self._http, random=self._random)

    async def _disconnect_all(self, window_seconds: float) -> None:
        """Send every client `reconnect` with a delay, and close each after its delay."""
        connections = list(self.connections)
        self._services.log.info("draining", connections=len(connections), window_seconds=window_seconds)
        started = trio.current_time()
        delays = plan_disconnects(len(connections), window_seconds, self._random)
        schedule = list(zip(delays, connections, strict=True))
        for number, (delay, connection) in enumerate(schedule):
            connection.send_reconnect(int(delay * 1000))
            if number % _RECONNECTS_AT_ONCE == _RECONNECTS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        await disconnect_in_time(
            schedule,
            lambda connection: connection.disconnect(CloseCode.SERVICE_RESTART, "service restart"),
            self.connections.wait_empty,
            started=started,
        )


def _admission_limits(settings: Settings) -> AdmissionLimits:
    """Return the configured limits, as far as the system has descriptors."""
    connections, per_address, accepts = admission_limits(settings.limits, trio.current_time())
    return min(connections, connections_possible()), per_address, accepts


async def _answer_siblings(
    siblings: Siblings, http: HttpServices, *, task_status: trio.TaskStatus[None]
) -> None:
    try:
        await siblings.serve(NodeAnswers(http).answer, task_status=task_status)
    except OSError as error:
        # Such as after a cleanup of temporary files; no message depends on the answers.
        http.log.warning("no answers for other workers", exc_info=error)
        task_status.started()


async def _call_when_cancelled(call: Callable[[], None]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        call()


async def _call_at(deadline: float, call: Callable[[], None]) -> None:
    await trio.sleep_until(deadline)
    call()
