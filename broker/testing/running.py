"""A real broker on a free port, in a thread of its own: for tests under trio, asyncio, or neither."""

import queue
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import msgspec
import trio

from broker.assembly import open_broker
from broker.auth.mint import make_token
from broker.client.publisher import AsyncPublisher, Publisher
from broker.config.settings import Settings

SECRET_BYTES = 48
STOP_SECONDS = 30.0
"""How long a broker may take to stop after its drain window before the test fails."""


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
def running_broker(settings: Settings | None = None) -> Iterator[RunningBroker]:
    """Serve on 127.0.0.1 until the block is left, then drain and stop.

    Of `settings`, host, port and drain window are replaced, and missing secrets are generated. It blocks until the
    broker serves; under trio or asyncio that is some hundredths of a second, once everything is imported.

    :raises ConfigurationError: if the broker cannot be opened as configured.
    :raises RuntimeError: if it does not stop within STOP_SECONDS.
    """
    complete = for_tests(settings or Settings())
    started: queue.SimpleQueue[tuple[str, _Stop] | BaseException] = queue.SimpleQueue()
    thread = threading.Thread(target=_run, args=(complete, started), name="greenroom under test", daemon=True)
    thread.start()
    first = started.get()
    if isinstance(first, BaseException):
        thread.join()
        raise first
    url, stop = first
    try:
        yield RunningBroker(url, complete)
    finally:
        stop.request()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise RuntimeError(f"the broker under test did not stop within {STOP_SECONDS:g} s")
    if not started.empty():
        failure = started.get()
        assert isinstance(failure, BaseException)
        raise failure


@attrs.frozen
class _Stop:
    """Ends the broker from another thread."""

    token: trio.lowlevel.TrioToken
    begin_drain: "trio.Event"

    def request(self) -> None:
        """Let the broker drain; a broker that failed has stopped already."""
        try:
            self.token.run_sync_soon(self.begin_drain.set)
        except trio.RunFinishedError:
            return


def _run(settings: Settings, started: "queue.SimpleQueue[tuple[str, _Stop] | BaseException]") -> None:
    try:
        trio.run(_serve, settings, started)
    except BaseException as failure:  # noqa: BLE001, ASYNC103  # raised in the thread of the test
        started.put(failure)


async def _serve(settings: Settings, started: "queue.SimpleQueue[tuple[str, _Stop] | BaseException]") -> None:
    stopping = trio.Event()
    stop = _Stop(trio.lowlevel.current_trio_token(), stopping)
    async with open_broker(settings) as broker, trio.open_nursery() as nursery:
        url = await nursery.start(broker.serve)
        started.put((url, stop))
        await stopping.wait()
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
