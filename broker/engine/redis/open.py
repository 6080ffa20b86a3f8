"""Opens the Redis engine."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random, SystemRandom
from secrets import token_hex

import attrs
import trio

from broker.clocks import Clock
from broker.config.settings import RedisSettings
from broker.engine.attendance import QueuesAtPlaces
from broker.engine.outbox import Queue
from broker.engine.redis.client.address import Address, RedisUrl, parse_redis_url
from broker.engine.redis.client.connection import Connection, Endpoint, open_connection
from broker.engine.redis.client.health import Health
from broker.engine.redis.client.link import Link
from broker.engine.redis.client.reconnector import Reconnector
from broker.engine.redis.client.subscriptions import Subscriptions
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.node_clock import NodeClock
from broker.engine.redis.presence.announcer import PresenceAnnouncer
from broker.engine.redis.presence.attendance import AttendanceWriter
from broker.engine.redis.presence.heartbeat import Heartbeat, HeartbeatOptions
from broker.engine.redis.presence.node_watch import NodeWatch
from broker.engine.redis.scripts import Scripts, load_scripts
from broker.engine.redis.server import RedisServer
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock

FAREWELL_SECONDS = 1.0
"""How long a node that stops may take to announce that its users have left; else its lease runs out."""


@asynccontextmanager
async def open_redis(
    url: str,
    settings: RedisSettings,
    *,
    idempotency_seconds: float,
    wall_clock: WallClock,
    log: Log,
    boot_clock: Clock | None = None,
    random: Random | None = None,
    queues: Sequence[Queue] = (),
) -> AsyncIterator[RedisEngine]:
    """Open the engine on the servers of a redis:// or rediss:// URL; leaving the block closes it.

    A server that cannot be reached is tried again and again; until then the engine is not ready, and the rooms of
    that server are unavailable.

    :raises ConfigurationError: if the URL or the TLS files are wrong, or a server refuses the login or is too old.
    """
    parsed = parse_redis_url(url, password=settings.password)
    tls = _tls_context(settings) if parsed.is_tls else None
    factory = _ServerFactory(
        settings,
        load_scripts(),
        Keyspace(settings.prefix, parsed.database),
        token_hex(8),
        random or SystemRandom(),
        NodeClock(wall_clock, log, boot_clock=boot_clock),
        QueuesAtPlaces(queues),
    )
    servers: list[RedisServer] = []
    async with AsyncExitStack() as stack:
        for address in parsed.addresses:
            endpoint = _endpoint(parsed, address, tls, settings)
            health = Health(str(address), wall_clock, log)
            connection = await _first_connection(endpoint, health)
            if isinstance(connection, Connection):
                stack.push_async_callback(connection.aclose)
            servers.append(factory.make(endpoint, health, connection))
        engine = RedisEngine(
            servers,
            factory.scripts,
            factory.keyspace,
            node=factory.node,
            lease_seconds=settings.lease_seconds,
            clock=factory.clock,
            idempotency_seconds=idempotency_seconds,
            log=log,
            queues=queues,
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        for server in servers:
            nursery.start_soon(server.run)
        nursery.start_soon(engine.cluster.run)
        yield engine
        with trio.move_on_after(FAREWELL_SECONDS):
            for server in servers:
                await server.wait_announced()
        nursery.cancel_scope.cancel()


def check_redis(url: str, settings: RedisSettings) -> None:
    """Check a URL and the TLS files, without a connection.

    :raises ConfigurationError: if one of them is wrong.
    """
    parsed = parse_redis_url(url, password=settings.password)
    if parsed.is_tls:
        _tls_context(settings)


def _endpoint(
    url: RedisUrl, address: Address, tls: ssl.SSLContext | None, settings: RedisSettings
) -> Endpoint:
    return Endpoint(address, url.user, url.password, url.database, tls, settings.timeout_seconds)


async def _first_connection(endpoint: Endpoint, health: Health) -> Connection | EngineUnavailableError:
    """Connect once before anything else, so that a wrong configuration is refused at start."""
    try:
        return await open_connection(endpoint)
    except EngineUnavailableError as error:
        health.note_trouble("requests", str(error), error.trouble)
        return error


@attrs.frozen
class _ServerFactory:
    """Makes each server from the parts that all of them share."""

    settings: RedisSettings
    scripts: Scripts
    keyspace: Keyspace
    node: str
    random: Random
    clock: NodeClock
    queues: QueuesAtPlaces

    def make(
        self, endpoint: Endpoint, health: Health, connection: Connection | EngineUnavailableError
    ) -> RedisServer:
        dial = partial(open_connection, endpoint)
        subscriptions = Subscriptions(Reconnector("feed", dial, health, self.random))
        link = Link(
            Reconnector("requests", dial, health, self.random),
            connection,
            timeout_seconds=self.settings.timeout_seconds,
            pending_bytes=self.settings.pending_bytes,
            on_other_server=partial(subscriptions.reconnect, "another server has taken over"),
        )
        lease_ms = int(self.settings.lease_seconds * 1000)
        announcer = PresenceAnnouncer(
            link, self.scripts.announce, self.keyspace, node=self.node, lease_ms=lease_ms
        )
        attendance = self._make_attendance(link, lease_ms)
        node_watch = NodeWatch(announcer, attendance)
        heartbeat = Heartbeat(
            link,
            subscriptions,
            health,
            self.clock,
            script=self.scripts.lease,
            keyspace=self.keyspace,
            options=HeartbeatOptions(
                self.node,
                self.settings.probe_seconds,
                self.settings.timeout_seconds,
                lease_ms,
                node_watch.lease_renewed,
            ),
        )
        return RedisServer(
            *(str(endpoint.address), link, subscriptions, announcer, node_watch, heartbeat, health),
            attendance,
        )

    def _make_attendance(self, link: Link, lease_ms: int) -> AttendanceWriter | None:
        if self.queues.is_empty:
            return None
        return AttendanceWriter(
            *(link, self.scripts, self.keyspace, self.queues),
            node=self.node,
            lease_ms=lease_ms,
            now_ms=self.clock.now_ms,
        )


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    """Return a context that checks certificates and names, against the system's authorities or those of a file.

    :raises ConfigurationError: if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"redis.ca_file: {settings.ca_file}: {reason}") from None
