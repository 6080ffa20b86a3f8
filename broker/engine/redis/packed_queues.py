"""The queues of the outbox as arguments of the scripts, in MessagePack. Pure."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from broker.engine.attendance import CONNECTEDNESS, MEMBERSHIP, OCCUPANCY, Pair, QueuesAtPlaces
from broker.engine.outbox import MOST_CACHED_ROOMS, Queue, message_queues
from broker.engine.redis.keyspace import Keyspace, OutboxKeys


def pack_outbox(keys: OutboxKeys) -> dict[str, str]:
    """Return the outbox as all scripts need it."""
    return {"stem": keys.stem, "channel": keys.channel}


def pack_queue(queue: Queue) -> dict[str, object]:
    """Return a queue as the scripts of the book need it."""
    return {
        "name": queue.name,
        "hold": queue.hold_back_ms,
        "kinds": {kind.value: True for kind in queue.kinds},
    }


def message_packer(queues: Sequence[Queue], keyspace: Keyspace) -> Callable[[str], bytes] | None:
    """Return what packs, for the script `append`, the queues that get a room's messages; None if none gets any."""
    queues_of = message_queues(queues)
    if queues_of is None:
        return None

    @lru_cache(MOST_CACHED_ROOMS)
    def pack(room: str) -> bytes:
        names = [queue.name for queue in queues_of(room)]
        told = {"outbox": pack_outbox(keyspace.outbox), "room": room, "names": names}
        return msgspec.msgpack.encode(told) if names else b""

    return pack


def pack_book(keyspace: Keyspace, queues: QueuesAtPlaces, place: str) -> bytes:
    """Return the book of who is present as its scripts need it for a place."""

    def of(pair: Pair) -> list[dict[str, object]]:
        return [pack_queue(queue) for queue in queues.of(pair, place)]

    return msgspec.msgpack.encode(
        {
            "stem": keyspace.book,
            "outbox": pack_outbox(keyspace.outbox),
            "occupancy": of(OCCUPANCY),
            "membership": of(MEMBERSHIP),
            "connectedness": of(CONNECTEDNESS),
        }
    )
