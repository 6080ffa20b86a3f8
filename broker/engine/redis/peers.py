"""Messages between single nodes: published on the recipient's channel, on the server of the room that they are about."""

from collections.abc import Callable, Sequence

import attrs
import msgspec

from broker.engine.peers import PeerListener, Peers
from broker.engine.redis.client.commands import pack_command
from broker.engine.redis.keyspace import Keyspace, RoomKeys
from broker.engine.redis.replies import parse_count
from broker.engine.redis.reply_values import of_msgspec
from broker.engine.redis.server import RedisServer
from broker.errors import EngineUnavailableError


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    room: str
    node: str
    message: bytes


_envelopes = msgspec.msgpack.Decoder(_Envelope)


@of_msgspec
def _parse_envelope(payload: bytes) -> _Envelope:
    return _envelopes.decode(payload)


@attrs.frozen
class _Channel:
    """Opens the envelopes of this node's channel on one server; those of other programs are dropped."""

    listener: PeerListener

    def arrived(self, payload: bytes) -> None:
        """See Listener."""
        try:
            envelope = _parse_envelope(payload)
        except ValueError:
            return
        self.listener.message_came(envelope.room, envelope.node, envelope.message)

    def fell_behind(self) -> None:
        """See Listener."""
        self.listener.fell_behind()


class RedisPeers(Peers):
    """See Peers."""

    def __init__(
        self,
        servers: Sequence[RedisServer],
        place: Callable[[str], tuple[RedisServer, RoomKeys]],
        keyspace: Keyspace,
        *,
        node: str,
    ) -> None:
        """`place` returns the server and the keys of a room."""
        self._servers = servers
        self._place = place
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
        server, _ = self._place(room)
        channel = self._keyspace.peer(node)
        if not server.link.request_soon(
            pack_command("PUBLISH", channel, packed), parse=parse_count, on_done=note
        ):
            on_done(False)
