"""The keys and arguments of the script `append`, packed. Pure."""

from collections.abc import Sequence

import attrs

from broker.engine.base import is_kept
from broker.engine.redis.client.commands import ScriptArguments, pack_argument
from broker.engine.redis.keyspace import RoomKeys
from broker.engine.redis.replies import pack_header
from broker.model import Draft

_KEYS = 2
_KEYS_PACKED = pack_argument(_KEYS)
_NONE = pack_argument(0)
_IS_EPHEMERAL = (pack_argument(0), pack_argument(1))


@attrs.frozen
class AppendArguments:
    """Packs appends to one room. What all of them have in common is packed already."""

    _room_keys: RoomKeys
    _keys: bytes
    """The hash and the stream."""
    _limits: tuple[bytes, bytes]
    """The arguments from the third to the last before the drafts: where nothing of the append is kept, and else."""
    _limits_count: int

    def pack(self, epoch: str, now_ms: int, drafts: Sequence[Draft]) -> ScriptArguments:
        """Return the arguments for drafts that are appended at `now_ms`; `epoch` is for a new room."""
        keys: list[bytes] = []
        packed: list[bytes] = []
        is_any_kept = False
        for draft in drafts:
            key = _NONE
            if draft.key is not None:
                keys.append(pack_argument(self._room_keys.idempotency(draft.key)))
                key = pack_argument(_KEYS + len(keys))
            is_any_kept = is_any_kept or is_kept(draft)
            content, header = draft.content, pack_header(draft.header)
            packed.append(
                b"%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n"
                % (key, _IS_EPHEMERAL[draft.ephemeral], len(content), content, len(header), header)
            )
        new_epoch, time = epoch.encode(), b"%d" % now_ms
        head = b"%b%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            *(pack_argument(_KEYS + len(keys)) if keys else _KEYS_PACKED, self._keys, b"".join(keys)),
            *(len(new_epoch), new_epoch, len(time), time, self._limits[is_any_kept]),
        )
        count = 1 + _KEYS + len(keys) + 2 + self._limits_count + 4 * len(packed)
        return ScriptArguments(count, head + b"".join(packed))
