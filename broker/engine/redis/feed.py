"""What one server publishes, on a connection of its own.

Nothing here waits for those who listen: a listener takes what it is handed at once. What was published while there
was no connection is lost to the feed, so once it is back every listener is told that it has fallen behind.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import attrs
import hiredis
import trio

from broker.engine.redis.connection import Connection
from broker.engine.redis.errors import lost, shown, unreachable
from broker.engine.redis.keeping import Keeper

CHANNELS_PER_COMMAND = 500


class Listener(Protocol):
    """Hears what comes on one channel. Neither method may block or raise."""

    def arrived(self, payload: bytes) -> None:
        """Take what was published."""
        ...

    def fell_behind(self) -> None:
        """Hear that something may have been missed."""
        ...


@attrs.define(eq=False)
class _Subscription:
    """A listener's place on a channel; `reason` is why it came to nothing."""

    channel: bytes
    listener: Listener
    is_kept: bool
    """Whether it waits for a connection if there is none."""
    is_confirmed: bool = False
    reason: str | None = None
    settled: trio.Event = attrs.Factory(trio.Event)


class ServerFeed:
    """The channels of one server that somebody here listens to; `run` it in a nursery."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._subscriptions: dict[bytes, _Subscription] = {}
        self._unconfirmed: deque[_Subscription] = deque()  # in the order in which they were asked for
        self._unsent: list[bytes] = []
        self._work = trio.Event()
        self._down: str | None = "not connected yet"
        self._restart: str | None = None

    def listen(self, channel: str, listener: Listener) -> None:
        """Subscribe now or when there is a connection; `listener.fell_behind` is called each time it is done."""
        self._add(_Subscription(channel.encode(), listener, is_kept=True))

    async def subscribe(self, channel: str, listener: Listener) -> None:
        """Subscribe; whatever is published after this has returned reaches the listener, or it is told so.

        If cancelled, it is not subscribed.

        :raises EngineUnavailableError: if it cannot be done now.
        """
        if self._down is not None:
            error = unreachable(self._down)
            await trio.lowlevel.checkpoint()
            raise error
        subscription = _Subscription(channel.encode(), listener, is_kept=False)
        self._add(subscription)
        try:
            await subscription.settled.wait()
        except trio.Cancelled:
            if self._subscriptions.get(channel.encode()) is subscription:
                self.unsubscribe(channel)
            raise
        if subscription.reason is not None:
            raise unreachable(subscription.reason)

    def unsubscribe(self, channel: str) -> None:
        """Hear no more of a channel, from now on."""
        if self._subscriptions.pop(channel.encode(), None) is not None and self._down is None:
            self._send("UNSUBSCRIBE", [channel.encode()])

    def restart(self, reason: str) -> None:
        """Give up the connection there is and make another: it does not bring what it should."""
        self._restart = reason
        self._work.set()

    async def run(self) -> None:
        """Keep the feed up until cancelled."""
        await self._keeper.run((self._write, self._read), self._fail)

    def _add(self, subscription: _Subscription) -> None:
        self._subscriptions[subscription.channel] = subscription
        if self._down is None:
            self._unconfirmed.append(subscription)
            self._send("SUBSCRIBE", [subscription.channel])

    def _send(self, command: str, channels: Sequence[bytes]) -> None:
        packed = hiredis.pack_command((command, *channels))  # type: ignore[arg-type]  # its stub means tuple[…, ...]
        self._unsent.append(packed)
        self._work.set()

    async def _write(self, connection: Connection) -> None:
        self._down = self._restart = None
        self._unconfirmed.extend(self._subscriptions.values())
        for channels in _in_parts(self._subscriptions):
            self._send("SUBSCRIBE", channels)
        while True:
            await self._work.wait()
            if self._restart is not None:
                raise lost(self._restart)
            self._work = trio.Event()
            data = b"".join(self._unsent)
            self._unsent.clear()
            await connection.send(data)

    async def _read(self, connection: Connection) -> None:
        while True:
            for reply in await connection.receive():
                match reply:
                    case [b"message", bytes(channel), bytes(payload)]:
                        if (subscription := self._subscriptions.get(channel)) is not None:
                            subscription.listener.arrived(payload)
                    case [b"subscribe", bytes(channel), int()]:
                        self._confirm(channel)
                    case [b"unsubscribe", bytes() | None, int()]:
                        pass
                    case hiredis.ReplyError():
                        raise lost(f"refused to subscribe: {shown(reply)}")
                    case _:
                        raise lost(f"what came is no subscription's: {shown(reply)}")

    def _confirm(self, channel: bytes) -> None:
        if not self._unconfirmed or self._unconfirmed[0].channel != channel:
            raise lost(f"a subscription that nobody asked for: {shown(channel)}")
        subscription = self._unconfirmed.popleft()
        is_again = subscription.is_confirmed
        subscription.is_confirmed = True
        subscription.settled.set()
        if is_again or subscription.is_kept:
            subscription.listener.fell_behind()

    def _fail(self, reason: str) -> None:
        """Forget those who still wait for their first confirmation; the others come back with the connection."""
        self._down = reason
        self._unconfirmed.clear()
        self._unsent.clear()
        self._work = trio.Event()
        for channel, subscription in list(self._subscriptions.items()):
            if not subscription.is_confirmed and not subscription.is_kept:
                del self._subscriptions[channel]
                subscription.reason = reason
                subscription.settled.set()


def _in_parts(channels: dict[bytes, _Subscription]) -> Iterator[list[bytes]]:
    waiting = iter(list(channels))
    while part := list(islice(waiting, CHANNELS_PER_COMMAND)):
        yield part
