"""The composition root: puts the parts of a broker together, and owns their nurseries.

Three functions, each on top of the one before: `open_engine_and_rooms`, `open_assembly`, `open_broker`. Programs use the
last; tests and benchmarks that need less use one of the others, so that nothing else puts parts together.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import attrs
import trio
from prometheus_client import CollectorRegistry

from actors import RestartPolicy
from actors.groups import leaves
from broker.auth.api_keys import ApiKeys
from broker.auth.bearer import ApiKey
from broker.auth.permissions import AccessPolicy, RoomPolicy
from broker.auth.remote_keys import RemoteKeySets
from broker.auth.revocations import RevocationTable
from broker.auth.tokens import open_verifier
from broker.clocks import Clock
from broker.clocks import boot_clock as system_boot_clock
from broker.config.check import with_normal_origins
from broker.config.problems import refuse
from broker.config.settings import HttpSettings, Settings
from broker.engine.base import Engine
from broker.engine.open import open_engine
from broker.engine.traced import traced_engine
from broker.errors import CloseCode
from broker.hooks.opening import open_hooks
from broker.hooks.own import Hook
from broker.http.nodes.busiest import SampleWindow
from broker.http.nodes.node import this_node
from broker.http.nodes.questions import NodeAnswers
from broker.http.nodes.siblings import Siblings
from broker.http.nodes.traffic import Traffic, TrafficMeter, run_traffic
from broker.http.services import HttpServices
from broker.log import Log
from broker.log.stdlib import given_or_stdlib_log
from broker.metrics import open_metrics
from broker.model import WallClock
from broker.preflight import find_problems
from broker.refusals import Refusals
from broker.rooms.directory import RetentionPolicy, Rooms, open_rooms
from broker.server import Broker
from broker.sessions.backlog import Backlog
from broker.sessions.connections import Connections
from broker.sessions.heartbeat import run_heartbeat
from broker.sessions.revocations import Revocations
from broker.sessions.services import SessionServices
from broker.traces.opening import open_tracer
from broker.traces.tracer import Tracer
from broker.transport.connection import ConnectionServices
from broker.transport.flusher import open_flusher
from broker.transport.native_protocol import native_protocol
from broker.transport.pump import open_pump
from broker.transport.tls.credentials import load_credentials
from broker.transport.tls.port_tls import PortTls
from broker.webhooks.deliveries import open_deliveries

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from broker.room_actors.actor import RoomActor

HEARTBEAT_SECONDS = 1.0

STOP_GRACE_SECONDS = 1.0
"""Time after the drain window for the requests of webhooks under way; the engine and the log have the rest of the 5 s."""


class OwnParts(TypedDict, total=False):
    """The parts that a program may bring of its own; those that it leaves out are made from the settings.

    All are called in the event loop, so they must not block.
    """

    engine: Engine | None
    """Stores events instead of the engine that `server.engine` names. It fulfils the contract of `broker.engine.base`,
    is open already, and stays open."""
    policy: AccessPolicy | None
    """Decides who may join a room, instead of the token's `rooms`, the settings' `rooms` and `auth.private_user_rooms`:
    for each join, and for each joined room when a token is replaced."""
    hooks: Sequence[Hook]
    """Decide who may connect, join and publish, and answer calls, before the `hooks` of the settings:
    `broker.hooks.Hook`, whose async callable gets the question and returns the answer. They may wait."""
    rooms: "Sequence[type[RoomActor[Any]]]"
    """Classes of rooms with code of their own, see `broker.room_actors`; the first whose pattern matches a name is for it."""
    retention: RetentionPolicy | None
    """Returns how much history a room keeps, instead of `history` and `rooms`; called once for each start of a room."""
    registry: CollectorRegistry | None
    """Gets the broker's metrics until the broker is closed, beside what the program has in it; `/metrics` shows all of
    it. Metrics of the process are registered only in a registry that the broker makes itself."""
    wall_clock: WallClock
    """Returns Unix seconds: the times of events, the expiry of tokens. Timeouts follow trio's clock."""
    boot_clock: Clock
    """Returns seconds since some moment and never goes back: the ages of events and of idempotency keys; see
    `broker.clocks`."""
    tracer_provider: "TracerProvider | None"
    """Gets the spans of the broker, whatever `traces` of the settings says; an OpenTelemetry provider, which stays open."""
    random: Random | None
    """Spreads the return of clients after a drain, and retries; it keeps no secret."""


@asynccontextmanager
async def open_broker(
    settings: Settings,
    *,
    log: Log | None = None,
    siblings: Siblings | None = None,
    dev: bool = False,
    **parts: Unpack[OwnParts],
) -> AsyncIterator[Broker]:
    """Open a broker inside any trio program; leaving the block stops its rooms and flushes its engine.

    `parts` may be brought by the program, see `OwnParts`. `log` gets the log lines; by default
    `logging.getLogger("greenroom")` does. `siblings` are the other workers of this machine, if it is one of several.

    With `dev`, weak secrets are accepted, and the API makes client tokens. An exception of the block is raised
    unchanged, outside any group, unless the broker fails as well.

    :raises ConfigurationError: if a key, a file or the engine cannot be used.
    :raises ValueError: if `registry` has the metrics of another broker.
    """
    failure: BaseException | None = None
    refuse(find_problems(settings, dev=dev))
    opening = open_assembly(settings, log=log, siblings=siblings, dev=dev, **parts)
    try:
        async with opening as assembly:
            try:
                yield Broker(assembly.services, assembly.http, assembly.draining, assembly.random)
            except BaseException as error:
                failure = error
                raise
    except BaseExceptionGroup as group:
        # Each nursery of the parts wraps it in a group.
        if failure is None and len(found := leaves(group)) == 1:
            (failure,) = found
        elif failure is None or not _is_only(group, failure):
            raise
    else:
        return
    raise failure


def _is_only(group: BaseExceptionGroup[BaseException], one: BaseException) -> bool:
    """Whether `group` holds only `one`, at whatever depth."""
    # By leaves, as a cancelled nursery splits groups and makes new ones.
    parts = leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return list(map(id, leaves(group))) == list(map(id, parts))


@attrs.frozen
class Assembly:
    """The parts of one broker, running. `http` holds the engine, the rooms and the connections as well."""

    services: ConnectionServices
    http: HttpServices
    draining: trio.Event
    """Set at the beginning of a drain."""
    random: Random
    """Spreads the return of clients."""


@asynccontextmanager
async def open_assembly(
    settings: Settings,
    *,
    log: Log | None = None,
    siblings: Siblings | None = None,
    dev: bool = False,
    **parts: Unpack[OwnParts],
) -> AsyncIterator[Assembly]:
    """Put the parts of a broker together and run them, without a port; the parameters are those of `open_broker`.

    The settings are not checked beforehand. An exception of the block is raised in a group.

    :raises ConfigurationError: if a key, a file or the engine cannot be used.
    :raises ValueError: if `registry` has the metrics of another broker.
    """
    settings = with_normal_origins(settings)
    wall_clock = parts.get("wall_clock", time.time)
    remote_keys, revoked = RemoteKeySets(), RevocationTable(wall_clock)
    own_hooks = parts.get("hooks", ())
    verifier = open_verifier(
        settings.auth,
        wall_clock=wall_clock,
        remote=remote_keys,
        revocations=revoked,
        keeps_payload=bool(own_hooks or settings.hooks),
    )
    api_keys = ApiKeys.from_settings(settings.http)
    # Files are read here, and not while others of its parts run.
    credentials = load_credentials(settings.server)
    policy = parts.get("policy") or RoomPolicy.from_settings(settings)
    draining, random = trio.Event(), parts.get("random") or SystemRandom()
    async with (
        given_or_stdlib_log(log) as own_log,
        open_tracer(settings.traces, own_log, provider=parts.get("tracer_provider")) as tracer,
        open_hooks(settings, own_hooks, log=own_log, wall_clock=wall_clock, tracer=tracer) as hooks,
        open_engine_and_rooms(
            settings,
            log=own_log,
            engine=parts.get("engine"),
            retention=parts.get("retention"),
            wall_clock=wall_clock,
            boot_clock=parts.get("boot_clock", system_boot_clock),
            classes=parts.get("rooms", ()),
            tracer=tracer,
        ) as (engine, rooms),
        open_deliveries(
            settings.webhooks,
            engine.outbox if settings.webhooks else None,
            log=own_log,
            wall_clock=wall_clock,
            random=random,
            draining=draining,
            stop_seconds=settings.server.drain_seconds + STOP_GRACE_SECONDS,
            tracer=tracer,
        ) as webhooks,
        open_pump() as pump,
        open_flusher() as flusher,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(remote_keys.run, own_log)
        backlog = Backlog(settings.limits.outbox_total_bytes, flusher.schedule)
        connections = Connections(settings.limits.connections_per_user, engine.attendance, backlog)
        if engine.presence is not None:
            engine.presence.on_close_user(partial(_close_user, connections))
        revocations = Revocations(revoked, engine.revocations, connections, wall_clock)
        await nursery.start(revocations.follow)
        nursery.start_soon(
            partial(run_heartbeat, connections, wall_clock, interval_seconds=HEARTBEAT_SECONDS)
        )
        traffic, samples = Traffic(), SampleWindow()
        nursery.start_soon(run_traffic, traffic, samples, TrafficMeter(rooms, connections, wall_clock).read)
        sessions = SessionServices(settings, rooms, policy, verifier, wall_clock=wall_clock, hooks=hooks)
        refusals = Refusals(own_log)
        tls = None
        if credentials is not None:
            tls = PortTls(settings.server, credentials, own_log, wall_clock)
            nursery.start_soon(tls.run)
        services = ConnectionServices(
            sessions, connections, [native_protocol()], own_log, draining.is_set, flusher, pump, refusals, tls
        )
        node = this_node(settings.server.node_name, 0 if siblings is None else siblings.worker)
        scheme = "own" if parts.get("engine") is not None else settings.server.engine.partition("://")[0]
        with open_metrics(
            rooms,
            connections,
            engine,
            refusals,
            own_log,
            webhooks=webhooks,
            build=lambda: {"version": node.version, "engine": scheme},
            is_draining=draining.is_set,
            registry=parts.get("registry"),
            hooks=hooks,
            certificate_expires_at=None if tls is None else tls.read_expiry,
            lag=traffic.lag,
            flushes=flusher.batches,
            deflate=services.deflate.tally,
        ) as metrics:
            http = HttpServices(
                settings=settings,
                rooms=rooms,
                connections=connections,
                engine=engine,
                verifier=verifier,
                remote_keys=remote_keys,
                revoked=revoked,
                revocations=revocations,
                policy=policy,
                api_keys=api_keys,
                metrics_key=_metrics_key(settings.http),
                wall_clock=wall_clock,
                log=own_log,
                is_draining=draining.is_set,
                metrics=metrics,
                node=node,
                siblings=siblings,
                traffic=traffic,
                samples=samples,
                allowances=sessions.allowances,
                connection_ids=sessions.connection_ids,
                is_dev=dev,
                refusals=refusals,
                hooks=hooks,
                tracer=tracer,
            )
            if engine.cluster is not None:
                engine.cluster.on_question(NodeAnswers(http).answer)
            yield Assembly(services, http, draining, random)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_engine_and_rooms(
    settings: Settings,
    *,
    log: Log,
    engine: Engine | None = None,
    retention: RetentionPolicy | None = None,
    restarts: RestartPolicy | None = None,
    wall_clock: WallClock = time.time,
    boot_clock: Clock = system_boot_clock,
    classes: "Sequence[type[RoomActor[Any]]]" = (),
    tracer: Tracer | None = None,
) -> AsyncIterator[tuple[Engine, Rooms]]:
    """Open rooms over an engine, without anybody in them; the parameters are as in `OwnParts`.

    `restarts` says how often a failing room is started again, see `actors`.

    :raises ConfigurationError: if the engine or a class of `classes` cannot be used.
    """
    async with AsyncExitStack() as stack:
        if engine is None:
            opening = open_engine(settings, wall_clock=wall_clock, boot_clock=boot_clock, log=log)
            engine = await stack.enter_async_context(opening)
        traced = engine if tracer is None else traced_engine(engine, tracer)
        if not classes:
            async with open_rooms(
                settings, traced, log, retention=retention, policy=restarts, tracer=tracer
            ) as rooms:
                yield engine, rooms
            return
        # Servers without such rooms do not import them.
        from broker.room_actors.answer_budget import AnswerLimits  # noqa: PLC0415
        from broker.room_actors.opening import open_room_actors  # noqa: PLC0415

        history = settings.history
        room_actors = open_room_actors(
            *(classes, traced),
            most_state_bytes=settings.limits.room_state_bytes,
            answer_limits=AnswerLimits(
                history.user_answers_bytes, history.answers_bytes, history.idempotency_seconds
            ),
            wall_clock=wall_clock,
            log=log,
        )
        opening_rooms = open_rooms(
            *(settings, traced, log),
            retention=retention,
            policy=restarts,
            code=room_actors,
            tracer=tracer,
        )
        async with opening_rooms as rooms, trio.open_nursery() as nursery:
            await nursery.start(room_actors.serve_rooms, rooms)
            yield engine, rooms
            nursery.cancel_scope.cancel()


def _close_user(connections: Connections, user_id: str) -> None:
    """Close a user's connections on this node, as another node was asked to do on all."""
    connections.disconnect_user(user_id, CloseCode.REMOVED, "removed by the application")


def _metrics_key(http: HttpSettings) -> ApiKey | None:
    if http.metrics_key is None:
        return None
    previous = http.previous_metrics_key or None
    return ApiKey(http.metrics_key, setting="http.metrics_key (GREENROOM_METRICS_KEY)", previous=previous)
