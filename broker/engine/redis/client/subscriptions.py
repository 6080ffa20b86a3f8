"""The subscriptions at one server, on a connection of their own.

Nothing here waits for a listener: its methods return at once. Messages published while there is no connection are
lost, so after each reconnect every listener is told that it fell behind.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import attrs
import hiredis
import trio

from broker.engine.redis.client.commands import pack_command
from broker.engine.redis.client.connection import Connection
from broker.engine.redis.client.errors import abbreviated, connection_lost, unreachable
from broker.engine.redis.client.reconnector import Reconnector, Restarted
from broker.wakeup import Wakeup

CHANNELS_PER_COMMAND = 500


class Listener(Protocol):
    """Receives the messages of one channel. Neither method may block or raise."""

    def arrived(self, payload: bytes) -> None:
        """Handle a message."""
        ...

    def fell_behind(self) -> None:
        """Handle that messages may have been missed."""
        ...


@attrs.define(eq=False)
class _Subscription:
    """A listener on a channel; `reason` is why it could not be subscribed."""

    channel: bytes
    listener: Listener
    is_kept: bool
    """Whether it waits for a connection if there is none."""
    is_confirmed: bool = False
    """Whether the server has confirmed it at least once."""
    reason: str | None = None
    settled: trio.Event = attrs.Factory(trio.Event)


class Subscriptions:
    """The channels of one server that this node listens to; `run` it in a nursery."""

    def __init__(self, reconnector: Reconnector) -> None:
        self._reconnector = reconnector
        self._by_channel: dict[bytes, _Subscription] = {}
        self._unconfirmed: deque[_Subscription] = deque()  # in the order in which they were sent
        self._unsent: list[bytes] = []
        self._has_work = Wakeup()
        self._down: str | None = "not connected yet"
        self._reconnect_reason: str | None = None

    def keep_subscribed(self, channel: str, listener: Listener) -> None:
        """Subscribe now or when there is a connection; `listener.fell_behind` is called at each confirmation."""
        self._add(_Subscription(channel.encode(), listener, is_kept=True))

    async def subscribe(self, channel: str, listener: Listener) -> None:
        """Subscribe; each message published after this has returned reaches the listener, or `fell_behind` is called.

        If cancelled, it is not subscribed.

        :raises EngineUnavailableError: if there is no connection, or it is lost before the confirmation.
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
            if self._by_channel.get(channel.encode()) is subscription:
                self.unsubscribe(channel)
            raise
        if subscription.reason is not None:
            raise unreachable(subscription.reason)

    def unsubscribe(self, channel: str) -> None:
        """Drop a channel's listener; from now on nothing reaches it."""
        if self._by_channel.pop(channel.encode(), None) is not None and self._down is None:
            self._send("UNSUBSCRIBE", [channel.encode()])

    def reconnect(self, reason: str) -> None:
        """Replace the present connection, if there is one: it does not deliver what it should."""
        self._reconnect_reason = reason
        self._has_work.set()

    async def run(self) -> None:
        """Keep the subscriptions up until cancelled."""
        await self._reconnector.run((self._write, self._read), self._fail)

    def _add(self, subscription: _Subscription) -> None:
        self._by_channel[subscription.channel] = subscription
        if self._down is None:
            self._unconfirmed.append(subscription)
            self._send("SUBSCRIBE", [subscription.channel])

    def _send(self, command: str, channels: Sequence[bytes]) -> None:
        self._unsent.append(pack_command(command, *channels))
        self._has_work.set()

    async def _write(self, connection: Connection) -> None:
        self._down = self._reconnect_reason = None
        self._unconfirmed.extend(self._by_channel.values())
        for channels in _in_parts(self._by_channel):
            self._send("SUBSCRIBE", channels)
        while True:
            await self._has_work.wait()
            if self._reconnect_reason is not None:
                raise Restarted(self._reconnect_reason)
            data = b"".join(self._unsent)
            self._unsent.clear()
            await connection.send(data)

    async def _read(self, connection: Connection) -> None:
        while True:
            for reply in await connection.receive():
                if type(reply) is list and len(reply) == 3 and reply[0] == b"message":
                    self._deliver(reply)
                    continue
                match reply:
                    case [b"subscribe", bytes(channel), int()]:
                        self._confirm(channel)
                    case [b"unsubscribe", bytes() | None, int()]:
                        pass
                    case hiredis.ReplyError():
                        raise connection_lost(f"refused to subscribe: {abbreviated(reply)}")
                    case _:
                        raise connection_lost(f"what came is no subscription's: {abbreviated(reply)}")

    def _deliver(self, message: list[object]) -> None:
        _, channel, payload = message
        if type(channel) is not bytes or type(payload) is not bytes:
            raise connection_lost(f"what came is no subscription's: {abbreviated(message)}")
        if (subscription := self._by_channel.get(channel)) is not None:
            subscription.listener.arrived(payload)

    def _confirm(self, channel: bytes) -> None:
        if not self._unconfirmed or self._unconfirmed[0].channel != channel:
            raise connection_lost(f"a subscription that nobody asked for: {abbreviated(channel)}")
        subscription = self._unconfirmed.popleft()
        is_again = subscription.is_confirmed
        subscription.is_confirmed = True
        subscription.settled.set()
        if not self._unconfirmed:
            # Only now: a server that refuses to subscribe is greeted well each time.
            self._reconnector.note_working()
        if is_again or subscription.is_kept:
            subscription.listener.fell_behind()

    def _fail(self, reason: str) -> None:
        """Drop the subscriptions that were never confirmed, unless they are kept; the others are sent again."""
        self._down = reason
        self._unconfirmed.clear()
        self._unsent.clear()
        self._has_work.clear()
        for channel, subscription in list(self._by_channel.items()):
            if not subscription.is_confirmed and not subscription.is_kept:
                del self._by_channel[channel]
                subscription.reason = reason
                subscription.settled.set()


def _in_parts(channels: dict[bytes, _Subscription]) -> Iterator[list[bytes]]:
    waiting = iter(list(channels))
    while part := list(islice(waiting, CHANNELS_PER_COMMAND)):
        yield part
