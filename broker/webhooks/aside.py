"""The entries of a queue that were put aside, over all partitions: listed in pages, and returned to the queue."""

import re
from collections.abc import Collection, Sequence

import attrs

from broker.engine.outbox import AsideEntry, Outbox

_CURSOR = re.compile(r"([0-9]{1,4})\.([0-9]{1,18})", re.ASCII)
_ID = re.compile(r".*-([0-9]{1,18})", re.ASCII | re.DOTALL)


@attrs.frozen
class Cursor:
    """A place in the list: behind the entry `number` of the partition of that index."""

    partition: int = 0
    number: int = 0

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Read a cursor as `str` writes it.

        :raises ValueError: if it is none.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("the cursor of the page before")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.partition}.{self.number}"


async def list_aside(
    outbox: Outbox, queue: str, *, limit: int, after: Cursor
) -> tuple[Sequence[AsideEntry], Cursor | None]:
    """Return entries put aside behind a cursor, and the cursor of the next page; None if there is none.

    :raises EngineUnavailableError: if they cannot be read.
    """
    found: list[tuple[Cursor, AsideEntry]] = []
    for index, partition in enumerate(outbox.partitions):
        if index < after.partition:
            continue
        begin = after.number if index == after.partition else 0
        # One more than asked for shows whether there is another page.
        page = await outbox.list_aside(partition, queue, limit=limit + 1 - len(found), after=begin)
        found += [(Cursor(index, each.entry.number), each) for each in page]
        if len(found) > limit:
            return [each for _, each in found[:limit]], found[limit - 1][0]
    return [each for _, each in found], None


async def repeat(outbox: Outbox, queue: str, ids: Collection[str] | None) -> int:
    """Return entries put aside to the queue, all for None; ids that are not aside are passed over. Returns their number.

    If it fails, some may have been returned; it may be repeated.

    :raises EngineUnavailableError: if the engine cannot be reached.
    """
    count = 0
    for partition in outbox.partitions:
        if ids is None:
            count += await outbox.repeat(partition, queue)
            continue
        # A number may stand for another entry in another partition or epoch.
        numbers = [
            number for each in ids if (number := await _find(outbox, partition, queue, each)) is not None
        ]
        if numbers:
            count += await outbox.repeat(partition, queue, numbers)
    return count


async def _find(outbox: Outbox, partition: str, queue: str, entry_id: str) -> int | None:
    """Return the number of the entry of that id, if it is aside in a partition."""
    match = _ID.fullmatch(entry_id)
    if match is None:
        return None
    number = int(match[1])
    found = await outbox.list_aside(partition, queue, limit=1, after=number - 1)
    return number if found and found[0].entry.id == entry_id else None
