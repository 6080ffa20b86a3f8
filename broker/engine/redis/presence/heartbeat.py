"""Renews this node's lease at one server, and checks that the server takes writes and delivers publications.

Each round writes to Redis and publishes a random payload to this node itself. So it finds every fault on the way
there and back, reported or not: a server that is down, full, read-only or frozen, a key that all nodes share and
another program has overwritten, a subscription that died silently.
"""

from collections.abc import Callable, Sequence
from secrets import token_hex

import attrs
import trio

from broker.engine.redis.client.health import Health
from broker.engine.redis.client.link import Link
from broker.engine.redis.client.subscriptions import Subscriptions
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.node_clock import NodeClock
from broker.engine.redis.replies import parse_lease
from broker.engine.redis.scripts import Script
from broker.errors import EngineTrouble, EngineUnavailableError
from broker.wakeup import Wakeup


@attrs.frozen
class HeartbeatOptions:
    """The node's id, the interval, the limits, and the callback for renewals."""

    node: str
    interval_seconds: float
    timeout_seconds: float
    lease_ms: int
    on_renewal: Callable[[bool, Sequence[str]], None]
    """Called after each renewal: whether there was no lease before, and which nodes have died of late."""


class Heartbeat:
    """Renews the node's lease at one server at an interval; `run` it in a nursery."""

    def __init__(
        self,
        link: Link,
        subscriptions: Subscriptions,
        health: Health,
        clock: NodeClock,
        *,
        script: Script,
        keyspace: Keyspace,
        options: HeartbeatOptions,
    ) -> None:
        self._link = link
        self._subscriptions = subscriptions
        self._health = health
        self._clock = clock
        self._script = script
        self._keys = (keyspace.alive, keyspace.store_id, keyspace.rooms)
        self._channel = keyspace.node(options.node)
        self._options = options
        self._sent = b""
        self._is_back = False
        self._progress = Wakeup()
        self._first_done = trio.Event()
        self.seconds: float | None = None
        """Round-trip time of the latest payload; None until one came back."""

    def arrived(self, payload: bytes) -> None:
        """See Listener: compare with the payload sent last."""
        if payload == self._sent:
            self._is_back = True
            self._progress.set()

    def fell_behind(self) -> None:
        """See Listener: the subscription is new, so the payload may be lost and is sent again."""
        self._progress.set()

    async def wait_first(self) -> None:
        """Wait for the end of the first round."""
        await self._first_done.wait()

    async def run(self) -> None:
        """Run a round at each interval, until cancelled."""
        self._subscriptions.keep_subscribed(self._channel, self)
        while True:
            await self._round()
            self._first_done.set()
            await trio.sleep(self._options.interval_seconds)

    async def _round(self) -> None:
        self._is_back = False
        while not self._is_back:
            self._progress.clear()
            self._sent = token_hex(8).encode()
            began = trio.current_time()
            try:
                await self._renew()
            except EngineUnavailableError as error:
                self._health.note_trouble("writes", str(error), error.trouble)
                return
            self._health.note_recovery("writes")
            with trio.move_on_after(self._options.timeout_seconds) as waiting:
                await self._progress.wait()
            if waiting.cancelled_caught:
                reason = (
                    f"what was published did not come back within {self._options.timeout_seconds:g} seconds"
                )
                self._health.note_trouble("deliveries", reason, EngineTrouble.NOT_DELIVERING)
                self._subscriptions.reconnect(reason)
                return
        self.seconds = trio.current_time() - began
        self._health.note_recovery("deliveries")

    async def _renew(self) -> None:
        options = self._options
        asked_at = self._clock.now()
        had_none, server_ms, dead = await self._script.run(
            self._link,
            self._keys,
            *(options.node, options.lease_ms, token_hex(8), self._channel, self._sent),
            parse=parse_lease,
        )
        self._clock.compare(self._health.server, server_ms / 1000, asked_at=asked_at)
        options.on_renewal(had_none, dead)
