"""What things are called in Redis. Pure."""

import attrs

from broker.model import IdempotencyKey


@attrs.frozen
class RoomNames:
    """The keys of one room, and its channel."""

    meta: str
    stream: str
    channel: str
    nodes: str
    """The version of each node that has users in the room."""
    users: str
    """With a node's id behind it, that node's users in the room."""
    _stem: str

    def sent(self, key: IdempotencyKey) -> str:
        """Return the key that remembers what was sent under an idempotency key."""
        # The length keeps scope and key apart, whatever is in them.
        return f"{self._stem}:sent:{len(key.scope)}:{key.scope}:{key.key}"


@attrs.frozen
class Names:
    """All names of the rooms under one prefix."""

    prefix: str
    database: int

    def room(self, room: str) -> RoomNames:
        """Return the names of a room; its keys share a hash tag, so that they are in one slot."""
        # An empty tag or one cut short by a brace would spread them.
        tag = room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        stem = f"{self.prefix}:{{{tag}}}"
        return RoomNames(
            f"{stem}:room",
            f"{stem}:events",
            self._channel(f"room:{room}"),
            f"{stem}:nodes",
            f"{stem}:users:",
            stem,
        )

    def node(self, node: str) -> str:
        """Return the channel on which a node hears itself."""
        return self._channel(f"node:{node}")

    @property
    def alive(self) -> str:
        """The key that holds when each node was last heard of."""
        return f"{self.prefix}:alive"

    @property
    def rooms(self) -> str:
        """The key that lists the rooms that somebody is in."""
        return f"{self.prefix}:rooms"

    @property
    def all_nodes(self) -> str:
        """The channel that every node hears."""
        return self._channel("nodes")

    @property
    def questions(self) -> str:
        """The channel on which nodes ask all others."""
        return self._channel("questions")

    def answers(self, node: str) -> str:
        """Return the channel on which a node hears the answers to its questions."""
        return self._channel(f"answers:{node}")

    @property
    def board(self) -> str:
        """The key that is lost when all that nodes have told is lost."""
        return f"{self.prefix}:board"

    def _channel(self, name: str) -> str:
        # Channels are the same in all databases of a server.
        return f"{self.prefix}:{self.database}:{name}"
