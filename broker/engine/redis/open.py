"""Opens the engine on its servers."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random, SystemRandom
from secrets import token_hex

import attrs
import trio

from broker.clocks import Clock
from broker.config.settings import RedisSettings
from broker.engine.redis.address import Address, RedisUrl, parse_redis_url
from broker.engine.redis.board import Board
from broker.engine.redis.clock import NodeClock
from broker.engine.redis.connection import Connection, Door, open_connection
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.feed import ServerFeed
from broker.engine.redis.health import Health
from broker.engine.redis.keeping import Keeper
from broker.engine.redis.keys import Names
from broker.engine.redis.lease import Lease
from broker.engine.redis.link import Link
from broker.engine.redis.probe import Probe, ProbeOptions
from broker.engine.redis.scripts import Scripts, load_scripts
from broker.engine.redis.server import Server
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock

FAREWELL_SECONDS = 1.0
"""How long a node that stops may take to tell that its users have left; else its lease runs out."""


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
) -> AsyncIterator[RedisEngine]:
    """Open the engine on the servers of a redis:// or rediss:// URL.

    A server that cannot be reached is tried again and again: the engine says that it is not ready, and what
    belongs to that server is unavailable until then.

    :raises ConfigurationError: if the URL or the TLS files are wrong, or a server refuses the login or is too old.
    """
    parsed = parse_redis_url(url)
    tls = _tls_context(settings) if parsed.is_tls else None
    make = _Maker(
        settings,
        load_scripts(),
        Names(settings.prefix, parsed.database),
        token_hex(8),
        random or SystemRandom(),
        NodeClock(wall_clock, log, boot_clock=boot_clock),
    )
    servers: list[Server] = []
    async with AsyncExitStack() as stack:
        for address in parsed.addresses:
            door = _door(parsed, address, tls, settings)
            health = Health(str(address), wall_clock, log)
            connection = await _first_connection(door, health)
            if isinstance(connection, Connection):
                stack.push_async_callback(connection.aclose)
            servers.append(make.server(door, health, connection))
        engine = RedisEngine(
            servers,
            make.scripts,
            make.names,
            node=make.node,
            lease_seconds=settings.lease_seconds,
            clock=make.clock,
            idempotency_seconds=idempotency_seconds,
            log=log,
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        for server in servers:
            nursery.start_soon(server.run)
        nursery.start_soon(engine.cluster.run)
        yield engine
        with trio.move_on_after(FAREWELL_SECONDS):
            for server in servers:
                await server.board.wait_told()
        nursery.cancel_scope.cancel()


def check_redis(url: str, settings: RedisSettings) -> None:
    """Check a URL and the TLS files, without a connection.

    :raises ConfigurationError: if one of them is wrong.
    """
    parsed = parse_redis_url(url)
    if parsed.is_tls:
        _tls_context(settings)


def _door(url: RedisUrl, address: Address, tls: ssl.SSLContext | None, settings: RedisSettings) -> Door:
    return Door(address, url.user, url.password, url.database, tls, settings.timeout_seconds)


async def _first_connection(door: Door, health: Health) -> Connection | EngineUnavailableError:
    """Connect once before anything else, so that what will never work is refused at start."""
    try:
        return await open_connection(door)
    except EngineUnavailableError as error:
        health.note_trouble("requests", str(error), error.trouble)
        return error


@attrs.frozen
class _Maker:
    """Makes the parts of each server from what all of them share."""

    settings: RedisSettings
    scripts: Scripts
    names: Names
    node: str
    random: Random
    clock: NodeClock

    def server(self, door: Door, health: Health, connection: Connection | EngineUnavailableError) -> Server:
        dial = partial(open_connection, door)
        feed = ServerFeed(Keeper("feed", dial, health, self.random))
        link = Link(
            Keeper("requests", dial, health, self.random),
            connection,
            timeout_seconds=self.settings.timeout_seconds,
            pending_bytes=self.settings.pending_bytes,
            on_other_server=partial(feed.restart, "another server has taken over"),
        )
        lease_ms = int(self.settings.lease_seconds * 1000)
        board = Board(link, self.scripts.announce, self.names, node=self.node, lease_ms=lease_ms)
        lease = Lease(board)
        options = ProbeOptions(
            self.node, self.settings.probe_seconds, self.settings.timeout_seconds, lease_ms, lease.renewed
        )
        probe = Probe(
            link, feed, health, self.clock, script=self.scripts.lease, names=self.names, options=options
        )
        return Server(str(door.address), link, feed, board, lease, probe, health)


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    """Certificates and names are checked, against the system's authorities or those of a file.

    :raises ConfigurationError: if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"redis.ca_file: {settings.ca_file}: {reason}") from None
