"""Where appended events end up, and what is told of a draft that came before."""

from typing import TYPE_CHECKING

import pytest
import trio

from broker.engine.base import Engine, Receipt, Retention
from broker.model import Draft, Event, EventHeader, IdempotencyKey, Position

if TYPE_CHECKING:
    from tests.engine.contract.conftest import Wall

KEEP_ALL = Retention(1000, 1_000_000, 86_400.0)
ORDER = EventHeader("order")
WINDOW_SECONDS = 300.0
"""As the fixture opens its engines."""


def draft(number: int, key: str | None = None, *, scope: str = "ann", ephemeral: bool = False) -> Draft:
    content = b'{"type":"order","n":%d}' % number
    return Draft(content, ephemeral, None if key is None else IdempotencyKey(scope, key), ORDER)


async def contents(engine: Engine, room: str = "den") -> list[bytes]:
    return [event.content for event in (await engine.read(room)).events]


async def test_a_new_room_stands_before_its_first_event(engine: Engine) -> None:
    await engine.wait_ready()
    first = await engine.position("den")
    assert first.offset == 0
    assert first.epoch
    assert await engine.position("den") == first
    run = await engine.read("den")
    assert (run.position, run.first_held, run.events) == (first, 1, ())


async def test_each_room_has_an_epoch_of_its_own(engine: Engine) -> None:
    epochs = [(await engine.position(f"room {number}")).epoch for number in range(20)]
    assert len(set(epochs)) == 20


async def test_events_are_numbered_from_one_in_the_order_in_which_they_were_appended(
    engine: Engine, wall: "Wall"
) -> None:
    epoch = (await engine.position("den")).epoch
    told = list(await engine.append("den", [draft(1), draft(2)], KEEP_ALL))
    wall.now += 1.5
    told += await engine.append("den", [draft(3)], KEEP_ALL)
    begin_ms = 1_700_000_000_000
    expected = [
        Event(draft(number).content, begin_ms + (1500 if number == 3 else 0), number, ORDER)
        for number in (1, 2, 3)
    ]
    assert told == [Receipt(Position(epoch, event.offset or 0), event) for event in expected]
    assert list((await engine.read("den")).events) == expected
    assert await engine.position("den") == Position(epoch, 3)


async def test_rooms_are_numbered_apart(engine: Engine) -> None:
    await engine.append("den", [draft(1), draft(2)], KEEP_ALL)
    [receipt] = await engine.append("attic", [draft(3)], KEEP_ALL)
    assert receipt.position is not None
    assert receipt.position.offset == 1
    assert await contents(engine) == [draft(1).content, draft(2).content]
    assert await contents(engine, "attic") == [draft(3).content]


async def test_nothing_appended_changes_nothing(engine: Engine) -> None:
    await engine.append("den", [draft(1)], KEEP_ALL)
    before = await engine.position("den")
    assert list(await engine.append("den", [], KEEP_ALL)) == []
    assert await engine.position("den") == before


@pytest.mark.parametrize(
    "content", [b'{"type":"\xc3\xa4\\u0000"}', b'{"type":"x","a":"%b"}' % (b"y" * 300_000)]
)
async def test_content_is_kept_byte_by_byte(engine: Engine, content: bytes) -> None:
    await engine.append("den", [Draft(content)], KEEP_ALL)
    assert await contents(engine) == [content]


async def test_appends_at_the_same_time_are_each_stored_in_one_piece(engine: Engine) -> None:
    told: list[list[int]] = []

    async def append(batch: int) -> None:
        drafts = [draft(batch * 10 + number) for number in range(3)]
        receipts = await engine.append("den", drafts, KEEP_ALL)
        told.append([receipt.position.offset for receipt in receipts if receipt.position is not None])

    async with trio.open_nursery() as nursery:
        for batch in range(20):
            nursery.start_soon(append, batch)
    assert sorted(told) == [[first, first + 1, first + 2] for first in range(1, 61, 3)]
    stored = await contents(engine)
    for offsets in told:
        numbers = [int(stored[offset - 1][20:-1]) for offset in offsets]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


async def test_a_cancelled_append_is_done_or_not_done_and_can_be_asked_again(engine: Engine) -> None:
    drafts = [draft(number, f"k{number}") for number in range(3)]
    with trio.CancelScope() as scope:
        scope.cancel()
        await engine.append("den", drafts, KEEP_ALL)
    assert await contents(engine) in ([], [each.content for each in drafts])
    receipts = await engine.append("den", drafts, KEEP_ALL)
    assert [receipt.position.offset for receipt in receipts if receipt.position is not None] == [1, 2, 3]
    assert await contents(engine) == [each.content for each in drafts]


async def test_a_key_stored_before_is_told_its_first_position_and_not_stored_again(engine: Engine) -> None:
    [first, _] = await engine.append("den", [draft(1, "k"), draft(2)], KEEP_ALL)
    again = await engine.append("den", [draft(3, "k"), draft(4)], KEEP_ALL)
    assert again[0] == Receipt(first.position, None)
    assert await contents(engine) == [draft(1).content, draft(2).content, draft(4).content]
    assert again[1].position == await engine.position("den")


async def test_a_key_counts_within_its_own_batch(engine: Engine) -> None:
    receipts = await engine.append("den", [draft(1, "k"), draft(2), draft(3, "k"), draft(4)], KEEP_ALL)
    assert receipts[2] == Receipt(receipts[0].position, None)
    assert [r.event.offset for r in receipts if r.event is not None] == [1, 2, 3]


async def test_keys_of_other_publishers_and_rooms_are_others(engine: Engine) -> None:
    await engine.append("den", [draft(1, "k")], KEEP_ALL)
    [receipt] = await engine.append("den", [draft(2, "k", scope="bob")], KEEP_ALL)
    assert receipt.event is not None
    [receipt] = await engine.append("attic", [draft(3, "k")], KEEP_ALL)
    assert receipt.event is not None


async def test_a_key_counts_for_the_window_and_no_longer(engine: Engine, wall: "Wall") -> None:
    [first] = await engine.append("den", [draft(1, "k")], KEEP_ALL)
    # Asking again does not begin a new window.
    for _ in range(2):
        wall.now += WINDOW_SECONDS / 2 - 0.5
        assert await engine.append("den", [draft(2, "k")], KEEP_ALL) == [Receipt(first.position, None)]
    wall.now += 1.0
    [receipt] = await engine.append("den", [draft(2, "k")], KEEP_ALL)
    assert receipt.event is not None
    assert receipt.event.offset == 2


@pytest.mark.parametrize(
    "retention", [Retention(0, 0, 0.0), Retention(1, 1_000_000, 86_400.0), Retention(1000, 1_000_000, 1.0)]
)
async def test_a_key_outlives_its_event(engine: Engine, wall: "Wall", retention: Retention) -> None:
    [first] = await engine.append("den", [draft(1, "k")], retention)
    await engine.append("den", [draft(2)], retention)
    wall.now += WINDOW_SECONDS - 1
    # Others' appends must not make the engine forget the room either.
    await engine.append("attic", [draft(3)], retention)
    assert await engine.append("den", [draft(4, "k")], retention) == [Receipt(first.position, None)]


async def test_an_ephemeral_draft_takes_its_turn_and_no_place(engine: Engine) -> None:
    drafts = [draft(1), draft(2, ephemeral=True), draft(3)]
    receipts = await engine.append("den", drafts, KEEP_ALL)
    assert [receipt.event.content for receipt in receipts if receipt.event] == [d.content for d in drafts]
    assert [receipt.event.offset for receipt in receipts if receipt.event] == [1, None, 2]
    assert [receipt.position is None for receipt in receipts] == [False, True, False]
    assert await contents(engine) == [draft(1).content, draft(3).content]


async def test_nothing_but_ephemeral_drafts_changes_nothing(engine: Engine, wall: "Wall") -> None:
    await engine.append("den", [draft(1)], KEEP_ALL)
    before, commits = await engine.read("den"), engine.statistics().commits
    wall.now += 1.5
    receipts = await engine.append("den", [draft(2, ephemeral=True), draft(3, ephemeral=True)], KEEP_ALL)
    time_ms = 1_700_000_001_500
    assert list(receipts) == [Receipt(None, Event(draft(n).content, time_ms, None, ORDER)) for n in (2, 3)]
    assert await engine.read("den") == before
    assert engine.statistics().commits == commits


async def test_an_ephemeral_draft_is_told_once_for_its_key(engine: Engine, wall: "Wall") -> None:
    [first] = await engine.append("den", [draft(1, "k", ephemeral=True)], KEEP_ALL)
    assert first.event is not None
    again = await engine.append("den", [draft(1, "k", ephemeral=True)], KEEP_ALL)
    assert again == [Receipt(None, None)]
    wall.now += WINDOW_SECONDS
    [receipt] = await engine.append("den", [draft(1, "k", ephemeral=True)], KEEP_ALL)
    assert receipt.event is not None
