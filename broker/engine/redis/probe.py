"""Each server is made to prove itself: it takes a write and brings back to this node what this node published.

Everything that can break on the way there and back shows here, whether anyone says anything or not: a server that
is down, full, read-only or frozen, and a subscription that has died without a word.
"""

from collections.abc import Callable, Sequence
from secrets import token_hex

import attrs
import trio

from broker.engine.redis.clock import NodeClock
from broker.engine.redis.feed import ServerFeed
from broker.engine.redis.health import Health
from broker.engine.redis.keys import Names
from broker.engine.redis.link import Link
from broker.engine.redis.replies import parse_lease
from broker.engine.redis.scripts import Script
from broker.errors import EngineTrouble, EngineUnavailableError


@attrs.frozen
class ProbeOptions:
    """Who asks, how often, and who hears of it."""

    node: str
    interval_seconds: float
    timeout_seconds: float
    lease_ms: int
    on_lease: Callable[[bool, Sequence[str]], None]
    """Hears of each renewal: whether there was no lease before, and which nodes have died of late."""


class Probe:
    """Renews the node's lease at one server, again and again, and sends itself something; `run` it in a nursery."""

    def __init__(
        self,
        link: Link,
        feed: ServerFeed,
        health: Health,
        clock: NodeClock,
        *,
        script: Script,
        names: Names,
        options: ProbeOptions,
    ) -> None:
        self._link = link
        self._feed = feed
        self._health = health
        self._clock = clock
        self._script = script
        self._keys = (names.alive, names.board)
        self._channel = names.node(options.node)
        self._options = options
        self._sent = b""
        self._is_back = False
        self._heard = trio.Event()
        self._first_done = trio.Event()
        self.seconds: float | None = None
        """How long the last one took, there and back; None until one came back."""

    def arrived(self, payload: bytes) -> None:
        """Take what came back; as a listener of the feed."""
        if payload == self._sent:
            self._is_back = True
            self._heard.set()

    def fell_behind(self) -> None:
        """Hear that the subscription is new: what was published before did not come."""
        self._heard.set()

    async def wait_first(self) -> None:
        """Wait until it is known how the server is."""
        await self._first_done.wait()

    async def run(self) -> None:
        """Send and wait, until cancelled."""
        self._feed.listen(self._channel, self)
        while True:
            await self._round()
            self._first_done.set()
            await trio.sleep(self._options.interval_seconds)

    async def _round(self) -> None:
        self._is_back = False
        while not self._is_back:
            self._heard = trio.Event()
            self._sent = token_hex(8).encode()
            began = trio.current_time()
            try:
                await self._renew()
            except EngineUnavailableError as error:
                self._health.note_trouble("writes", str(error), error.trouble)
                return
            self._health.note_well("writes")
            with trio.move_on_after(self._options.timeout_seconds) as waiting:
                await self._heard.wait()
            if waiting.cancelled_caught:
                reason = (
                    f"what was published did not come back within {self._options.timeout_seconds:g} seconds"
                )
                self._health.note_trouble("deliveries", reason, EngineTrouble.NOT_DELIVERING)
                self._feed.restart(reason)
                return
        self.seconds = trio.current_time() - began
        self._health.note_well("deliveries")

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
        options.on_lease(had_none, dead)
