"""The composition root: puts the parts of a broker together, and owns their nurseries."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random, SystemRandom

import trio

from actors.groups import leaves
from broker.auth.bearer import ApiKey
from broker.auth.permissions import RoomPolicy
from broker.auth.tokens import open_verifier
from broker.clocks import boot_clock
from broker.config.check import with_normal_origins
from broker.config.problems import refuse
from broker.config.settings import Settings
from broker.engine.open import open_engine
from broker.errors import CloseCode
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
from broker.rooms.directory import open_rooms
from broker.server import Broker
from broker.sessions.connections import Connections
from broker.sessions.heartbeat import run_heartbeat
from broker.sessions.session import SessionServices
from broker.transport.connection import ConnectionServices
from broker.transport.flusher import open_flusher
from broker.transport.native_protocol import native_protocol
from broker.transport.pump import open_pump

HEARTBEAT_SECONDS = 1.0


def _close_user(connections: Connections, user_id: str) -> None:
    """Close a user's connections on this node, as another node was asked to do on all."""
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
    With `dev`, weak secrets are accepted, and the API makes client tokens. An exception of the block is raised
    unchanged, outside any group, unless the broker fails as well.

    :raises ConfigurationError: if a key, a file or the engine cannot be used.
    """
    failure: BaseException | None = None
    random = random or SystemRandom()
    parts = _open_parts(settings, log, wall_clock, random, siblings, dev=dev)
    try:
        async with parts as broker:
            try:
                yield broker
            except BaseException as error:
                failure = error
                raise
    except BaseExceptionGroup as group:
        # Each nursery of the parts wraps it in a group.
        if failure is None or not _is_only(group, failure):
            raise
    else:
        return
    raise failure


def _is_only(group: BaseExceptionGroup[BaseException], one: BaseException) -> bool:
    """Whether `group` holds only `one`, at whatever depth."""
    # By leaves, as a cancelled nursery splits groups and makes new ones.
    parts = leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return list(map(id, leaves(group))) == list(map(id, parts))


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
        given_or_stdlib_log(given_log) as log,
        open_engine(settings, wall_clock=wall_clock, boot_clock=boot_clock, log=log) as engine,
        open_rooms(settings, engine, log) as rooms,
        open_pump() as pump,
        open_flusher() as flusher,
        trio.open_nursery() as nursery,
    ):
        if engine.presence is not None:
            engine.presence.on_close_user(lambda user_id: _close_user(connections, user_id))
        nursery.start_soon(
            partial(run_heartbeat, connections, wall_clock, interval_seconds=HEARTBEAT_SECONDS)
        )
        traffic, samples = Traffic(), SampleWindow()
        nursery.start_soon(run_traffic, traffic, samples, TrafficMeter(rooms, connections, wall_clock).read)
        sessions = SessionServices(settings, rooms, policy, verifier)
        refusals = Refusals(log)
        services = ConnectionServices(
            sessions, connections, [native_protocol()], log, draining.is_set, flusher, pump, refusals
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
            samples=samples,
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
