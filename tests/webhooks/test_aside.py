"""Entries put aside, over several partitions: pages, and ids that name one entry each."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.age_clock import Moment
from broker.engine.memory_outbox import PARTITION, MemoryOutbox
from broker.engine.outbox import AsideEntry, Kind, Queue, write_message_entry
from broker.model import Event, Position
from broker.webhooks.aside import Cursor, list_aside, repeat

QUEUE = Queue("shop", frozenset(Kind))


class Partitions(MemoryOutbox):
    """An outbox of several partitions, each with numbers of its own from 1."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__([QUEUE], epoch="-", now=lambda: Moment(5, 5))
        self.parts = [
            MemoryOutbox([QUEUE], epoch=f"e-{n}", now=lambda: Moment(5, 5)) for n in range(len(sizes))
        ]
        self.sizes = sizes

    async def fill(self) -> None:
        for part, size in zip(self.parts, self.sizes, strict=True):
            for number in range(1, size + 1):
                write_message_entry(part, [QUEUE], "a", Position("r", number), Event(b"{}", 0, number))
            fence = await part.lease(PARTITION, "me", 60.0)
            assert fence is not None
            await part.put_aside(PARTITION, "shop", range(1, size + 1), "no", fence)

    @property
    def partitions(self) -> Sequence[str]:
        return [str(index) for index in range(len(self.parts))]

    async def list_aside(self, partition: str, queue: str, **more: Any) -> Sequence[AsideEntry]:
        return await self.parts[int(partition)].list_aside(partition, queue, **more)

    async def repeat(self, partition: str, queue: str, numbers: Sequence[int] | None = None) -> int:
        return await self.parts[int(partition)].repeat(partition, queue, numbers)

    async def ids(self, limit: int) -> list[str]:
        """Return the ids of all pages."""
        found: list[str] = []
        cursor: Cursor | None = Cursor()
        while cursor is not None:
            page, following = await list_aside(self, "shop", limit=limit, after=cursor)
            assert len(page) == limit or following is None
            found += [each.entry.id for each in page]
            cursor = None if following is None else Cursor.read(str(following))
        return found


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4), limit=st.integers(1, 5), data=st.data())
async def test_pages_hold_each_entry_once_and_an_id_repeats_its_entry_alone(
    sizes: list[int], limit: int, data: st.DataObject
) -> None:
    outbox = Partitions(sizes)
    await outbox.fill()
    ids = [f"e-{index}-{number}" for index, size in enumerate(sizes) for number in range(1, size + 1)]
    assert await outbox.ids(limit) == ids
    chosen = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    strangers = ["", "e-0", "e-9-1", "e-0-99", "e-0-0", "x", "e-0-1 ", "e-0-1234567890123456789012"]
    assert await repeat(outbox, "shop", [*strangers, *chosen]) == len(chosen)
    assert await outbox.ids(limit) == [each for each in ids if each not in chosen]
    assert await repeat(outbox, "shop", None) == len(ids) - len(chosen)
    assert await outbox.ids(limit) == []


@pytest.mark.parametrize(
    "text", ["1", "1.", ".1", "a.b", "1.-1", "1.1.1", "-1.1", "\u0661.1", "1." + "9" * 19]
)
def test_another_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.read(text)
