"""The requests that tell of entries. Pure."""

from collections.abc import Sequence
from hashlib import sha256

import attrs
import msgspec

from broker.engine.outbox import Entry

MOST_BODY_BYTES = 1 << 20
"""Most JSON in a request of several entries; one that is larger goes alone. Frameworks refuse bodies over 2.5 MB or so."""

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Told(msgspec.Struct, frozen=True):
    """The fields that every entry has on the wire."""

    id: str
    type: str
    number: int
    time: int
    room: str | None
    user: str | None


@attrs.frozen
class Batch:
    """Entries that are posted in one request."""

    entries: tuple[Entry, ...]
    body: bytes
    """A JSON array of them."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its entries."""
        return tuple(entry.number for entry in self.entries)

    @property
    def id(self) -> str:
        """The id of the request: the same for the same entries, on every node, and another one for others."""
        return f"msg_{sha256(self.body).hexdigest()[:32]}"


def encode_entry(entry: Entry) -> bytes:
    """Return an entry as JSON; the fields of its kind stand beside those that all have."""
    told = msgspec.structs.asdict(
        _Told(entry.id, entry.kind.value, entry.number, entry.time_ms, entry.room, entry.user)
    )
    return msgspec.json.encode({**_read_fields.decode(entry.fields), **told})


def make_batch(entries: Sequence[Entry], *, most_bytes: int = MOST_BODY_BYTES) -> Batch:
    """Return the first of `entries`, which are not empty, as one request of at most `most_bytes`, but at least one entry."""
    parts: list[bytes] = []
    size = 2
    for entry in entries:
        part = encode_entry(entry)
        size += len(part) + 1
        if parts and size > most_bytes:
            break
        parts.append(part)
    return Batch(tuple(entries[: len(parts)]), b"[%b]" % b",".join(parts))
