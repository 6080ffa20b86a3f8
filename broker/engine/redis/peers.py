"""Messages between single nodes: published on the recipient's channel, on the server of the room that they are about."""

from collections.abc import Callable, Sequence

import attrs
import msgspec

from broker.engine.peers import PeerListener, Peers
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import parse_count
from broker.engine.redis.ring import Ring
from broker.engine.redis.server import RedisServer
from broker.errors import EngineUnavailableError


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    room: str
    node: str
    message: bytes


_envelopes = msgspec.msgpack.Decoder(_Envelope)


@attrs.frozen
class _Channel:
    """Opens the envelopes of this node's channel on one server; those of other programs are dropped."""

    listener: PeerListener

    def arrived(self, payload: bytes) -> None:
        """See Listener."""
        try:
            envelope = _envelopes.decode(payload)
        except (msgspec.MsgspecError, ValueError, MemoryError):
            # MemoryError: an array that announces 2**32 elements.
            return
        self.listener.message_came(envelope.room, envelope.node, envelope.message)

    def fell_behind(self) -> None:
        """See Listener."""
        self.listener.fell_behind()


class RedisPeers(Peers):
    """See Peers."""

    def __init__(self, servers: Sequence[RedisServer], ring: Ring, keyspace: Keyspace, *, node: str) -> None:
        self._servers = servers
        self._ring = ring
        self._keyspace = keyspace
        self._node = node

    @property
    def node(self) -> str:
        """See Peers."""
        return self._node

    def listen(self, listener: PeerListener) -> None:
        """See Peers."""
        for server in self._servers:
            server.subscriptions.keep_subscribed(self._keyspace.peer(self._node), _Channel(listener))

    def send_nowait(
        self, room: str, node: str, message: bytes, on_done: Callable[[bool | None], None]
    ) -> None:
        """See Peers. A server that is away, or has too much to do, counts as a node that is not there."""

        def note(reply: int | EngineUnavailableError) -> None:
            on_done(None if isinstance(reply, EngineUnavailableError) else reply > 0)

        packed = msgspec.msgpack.encode(_Envelope(room, self._node, message))
        link = self._servers[self._ring.index_of(room)].link
        channel = self._keyspace.peer(node)
        if not link.request_soon("PUBLISH", channel, packed, parse=parse_count, on_done=note):
            on_done(False)
