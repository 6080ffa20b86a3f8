"""The names of keys and channels in Redis. Pure."""

import attrs

from broker.model import IdempotencyKey


def tag_of(room: str) -> str:
    """Return the hash tag of a room's keys; an empty one, or one cut short by a brace, would spread them over slots."""
    return room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def room_of(tag: str) -> str:
    """Return the room of a tag."""
    return tag.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


@attrs.frozen
class RoomKeys:
    """The keys of one room, and its channel."""

    meta: str
    stream: str
    channel: str
    nodes: str
    """The key with the version and size of each node that has users in the room."""
    users: str
    """The beginning of the keys that hold a node's users in the room, which earlier versions read; the node's id follows."""
    members: str
    """The beginning of the keys that hold a node's members in the room; the node's id follows."""
    _stem: str

    def idempotency(self, key: IdempotencyKey) -> str:
        """Return the key that holds the position stored under an idempotency key."""
        # The length keeps scope and key apart, whatever is in them.
        return f"{self._stem}:sent:{len(key.scope)}:{key.scope}:{key.key}"

    @property
    def code(self) -> str:
        """The key with the owner and the state of a room with code."""
        return f"{self._stem}:code"

    @property
    def timers(self) -> str:
        """The key with the timers of a room with code."""
        return f"{self._stem}:timers"

    def answer(self, key: IdempotencyKey) -> str:
        """Return the key that holds the answer to the request with an idempotency key, in a room with code."""
        return f"{self._stem}:answer:{len(key.scope)}:{key.scope}:{key.key}"


@attrs.frozen
class OutboxKeys:
    """The keys of the outbox on one server, and its channel, on which the names of queues are published."""

    stem: str
    channel: str

    def waiting(self, queue: str) -> str:
        """Return the key with the entries of a queue."""
        return f"{self.stem}waiting:{queue}"

    def aside(self, queue: str) -> str:
        """Return the key with the entries of a queue that were put aside."""
        return f"{self.stem}aside:{queue}"

    @property
    def lease(self) -> str:
        """The key with the holder of the lease."""
        return f"{self.stem}lease"

    @property
    def fence(self) -> str:
        """The key with the number of the latest holder."""
        return f"{self.stem}fence"


@attrs.frozen
class Keyspace:
    """All keys and channels under one prefix."""

    prefix: str
    database: int

    def room(self, room: str) -> RoomKeys:
        """Return the keys of a room; they share a hash tag, so that they are in one slot."""
        stem = f"{self.prefix}:{{{tag_of(room)}}}"
        return RoomKeys(
            f"{stem}:room",
            f"{stem}:events",
            self._channel(f"room:{room}"),
            f"{stem}:nodes",
            f"{stem}:users:",
            f"{stem}:members:",
            stem,
        )

    def node(self, node: str) -> str:
        """Return the channel on which a node receives its own heartbeats."""
        return self._channel(f"node:{node}")

    @property
    def alive(self) -> str:
        """The key with the time of each node's latest heartbeat."""
        return f"{self.prefix}:alive"

    @property
    def rooms(self) -> str:
        """The key with the names of all rooms that have members."""
        return f"{self.prefix}:rooms"

    @property
    def timers(self) -> str:
        """The key with the timers of all rooms with code."""
        return f"{self.prefix}:timers"

    @property
    def all_nodes(self) -> str:
        """The channel that every node is subscribed to."""
        return self._channel("nodes")

    @property
    def questions(self) -> str:
        """The channel on which a node asks all others."""
        return self._channel("questions")

    def answers(self, node: str) -> str:
        """Return the channel on which a node receives the answers to its questions."""
        return self._channel(f"answers:{node}")

    def peer(self, node: str) -> str:
        """Return the channel on which a node receives the messages of other nodes about rooms with code."""
        return self._channel(f"peer:{node}")

    @property
    def store_id(self) -> str:
        """The key with a random id that is lost whenever the presence data is lost."""
        return f"{self.prefix}:board"

    @property
    def revocations(self) -> str:
        """The key with the time at which each revocation of tokens runs out."""
        return f"{self.prefix}:revocations"

    @property
    def revocations_issued(self) -> str:
        """The key with the time before which the tokens of a revocation were issued, for those that have one."""
        return f"{self.prefix}:revocations:issued"

    @property
    def revocations_channel(self) -> str:
        """The channel with the revocations of all nodes."""
        return self._channel("revocations")

    @property
    def outbox(self) -> OutboxKeys:
        """The keys of the outbox."""
        return OutboxKeys(f"{self.prefix}:outbox:", self._channel("outbox"))

    @property
    def book(self) -> str:
        """The beginning of the keys of the book of who is present."""
        return f"{self.prefix}:book:"

    @property
    def book_nodes(self) -> str:
        """The key with the nodes that have users in the book."""
        return f"{self.book}nodes"

    def book_places(self, node: str) -> str:
        """Return the key with the places at which a node has users in the book."""
        return f"{self.book}of:{node}"

    def _channel(self, name: str) -> str:
        # Channels are the same in all databases of a server.
        return f"{self.prefix}:{self.database}:{name}"
