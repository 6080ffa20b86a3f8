"""Opens the engine on its servers."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random

import attrs
import trio

from broker.config.settings import RedisSettings
from broker.engine.redis.address import Address, RedisUrl, parse_redis_url
from broker.engine.redis.connection import Connection, Door, open_connection
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.feed import ServerFeed
from broker.engine.redis.health import Health
from broker.engine.redis.keeping import Keeper
from broker.engine.redis.keys import Names
from broker.engine.redis.link import Link
from broker.engine.redis.probe import Probe
from broker.engine.redis.scripts import Scripts, load_scripts
from broker.engine.redis.server import Server
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock


@asynccontextmanager
async def open_redis(
    url: str,
    settings: RedisSettings,
    *,
    idempotency_seconds: float,
    wall_clock: WallClock,
    log: Log,
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
        random or Random(),  # noqa: S311  # jitter
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
            servers, make.scripts, make.names, wall_clock=wall_clock, idempotency_seconds=idempotency_seconds
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        for server in servers:
            nursery.start_soon(server.run)
        yield engine
        nursery.cancel_scope.cancel()


def _door(url: RedisUrl, address: Address, tls: ssl.SSLContext | None, settings: RedisSettings) -> Door:
    return Door(address, url.user, url.password, url.database, tls, settings.timeout_seconds)


async def _first_connection(door: Door, health: Health) -> Connection | EngineUnavailableError:
    """Connect once before anything else, so that what will never work is refused at start."""
    try:
        return await open_connection(door)
    except EngineUnavailableError as error:
        health.note_trouble("requests", str(error))
        return error


@attrs.frozen
class _Maker:
    """Makes the parts of each server from what all of them share."""

    settings: RedisSettings
    scripts: Scripts
    names: Names
    random: Random

    def server(self, door: Door, health: Health, connection: Connection | EngineUnavailableError) -> Server:
        dial = partial(open_connection, door)
        link = Link(
            Keeper("requests", dial, health, self.random),
            connection,
            timeout_seconds=self.settings.timeout_seconds,
            pending_bytes=self.settings.pending_bytes,
        )
        feed = ServerFeed(Keeper("feed", dial, health, self.random))
        probe = Probe(
            link,
            feed,
            health,
            self.scripts.probe,
            self.names,
            interval_seconds=self.settings.probe_seconds,
            timeout_seconds=self.settings.timeout_seconds,
        )
        return Server(str(door.address), link, feed, probe, health)


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    """Certificates and names are checked, against the system's authorities or those of a file.

    :raises ConfigurationError: if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigurationError(f"redis.ca_file: {settings.ca_file}: {error.strerror or error}") from None
