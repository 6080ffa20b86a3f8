"""A real broker on a free port, in a thread of its own: for tests under trio, asyncio, or neither."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Unpack

import attrs
import msgspec
import trio

from broker.assembly import OwnParts, open_broker
from broker.auth.mint import make_token
from broker.client.publisher import AsyncPublisher, Publisher
from broker.config.settings import Settings
from broker.hooks.own import Hook
from broker.room_actors.actor import RoomActor
from broker.testing.threads import open_in_thread

SECRET_BYTES = 48


@attrs.frozen
class RunningBroker:
    """A broker that serves."""

    url: str
    settings: Settings = attrs.field(repr=False)

    @property
    def api_key(self) -> str:
        """The key of its HTTP API."""
        return self.settings.http.api_key or ""

    @property
    def secret(self) -> str:
        """The secret that signs client tokens."""
        return self.settings.auth.secret or ""

    def token(
        self,
        user_id: str,
        *,
        ttl_seconds: float = 3600.0,
        rooms: Sequence[str] | None = None,
        can: Sequence[str] | None = None,
    ) -> str:
        """Return a client token; `rooms` and `can` are its claims."""
        return make_token(
            self.settings.auth, user_id, ttl_seconds=ttl_seconds, now=time.time(), rooms=rooms, can=can
        )

    def publisher(self) -> Publisher:
        """Return a publisher for it, to be closed."""
        return Publisher(self.url, self.api_key)

    def async_publisher(self) -> AsyncPublisher:
        """Return an asynchronous publisher for it, to be closed."""
        return AsyncPublisher(self.url, self.api_key)


@contextmanager
def running_broker(
    settings: Settings | None = None,
    *,
    rooms: Sequence[type[RoomActor[Any]]] = (),
    hooks: Sequence[Hook] = (),
) -> Iterator[RunningBroker]:
    """Serve on 127.0.0.1 until the block is left, then drain and stop; `rooms` and `hooks` are as in `open_broker`.

    Of `settings`, host, port and drain window are replaced, and missing secrets are generated. It blocks until the
    broker serves; under trio or asyncio that is some hundredths of a second, once everything is imported.

    :raises ConfigurationError: if the broker cannot be opened as configured.
    :raises RuntimeError: if it does not stop within `threads.STOP_SECONDS`.
    """
    with open_in_thread(
        partial(_serve, for_tests(settings or Settings()), rooms=rooms, hooks=hooks)
    ) as broker:
        yield broker


@asynccontextmanager
async def _serve(settings: Settings, **parts: Unpack[OwnParts]) -> AsyncIterator[RunningBroker]:
    async with open_broker(settings, **parts) as broker, trio.open_nursery() as nursery:
        url = await nursery.start(broker.serve)
        yield RunningBroker(url, settings)
        broker.begin_drain()


def for_tests(settings: Settings) -> Settings:
    """Return settings for a test: on a free port of this machine, with secrets."""
    server = msgspec.structs.replace(settings.server, host="127.0.0.1", port=0, drain_seconds=0.0)
    auth, http = settings.auth, settings.http
    if not auth.secret:
        auth = msgspec.structs.replace(auth, secret=secrets.token_urlsafe(SECRET_BYTES))
    if not http.api_key:
        http = msgspec.structs.replace(http, api_key=secrets.token_urlsafe(SECRET_BYTES))
    return msgspec.structs.replace(settings, server=server, auth=auth, http=http)
