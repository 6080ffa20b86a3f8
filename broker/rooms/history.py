"""Reads a room's events from the engine, page by page where there may be many."""

from collections.abc import Callable

import attrs

from broker.engine.base import Engine, Run
from broker.model import Event, Position
from broker.rooms.recovery import count_fitting


async def read_missed(
    engine: Engine,
    room: str,
    since: Position,
    until: int,
    *,
    page_messages: int,
    most_bytes: int,
    is_wanted: Callable[[Event], bool] | None = None,
) -> tuple[tuple[Event, ...], bool]:
    """Return the events after `since` up to the offset `until`, and True; or none and False if they are not complete.

    `most_bytes` counts their contents; with `is_wanted`, the contents of those that are.

    Later events in the engine are still to be delivered, also to this member.

    :raises EngineUnavailableError: if the engine cannot read.
    """
    events: list[Event] = []
    left_bytes = most_bytes
    at = since
    while True:
        run = await engine.read(room, after=at.offset, limit=page_messages)
        if not run.can_continue(at):
            return (), False
        page = [event for event in run.events if _offset(event) <= until]
        left_bytes -= sum(len(event.content) for event in page if is_wanted is None or is_wanted(event))
        if left_bytes < 0:
            return (), False
        events += page
        if not page or _offset(page[-1]) == until:
            return tuple(events), True
        at = Position(since.epoch, _offset(page[-1]))


async def read_page(
    engine: Engine, room: str, since: Position | None, limit: int, *, reverse: bool, most_bytes: int
) -> Run:
    """Return at most `limit` events after `since`, and of these the first that fit into `most_bytes`.

    :raises EngineUnavailableError: if the engine cannot read.
    """
    after = 0 if since is None else since.offset
    run = await engine.read(room, after=after, limit=limit, reverse=reverse)
    if since is not None and since.epoch != run.position.epoch:
        # After a change of epoch all stored events are new.
        run = await engine.read(room, limit=limit, reverse=reverse)
    return attrs.evolve(run, events=run.events[: count_fitting(room, run.events, most_bytes)])


def _offset(event: Event) -> int:
    assert event.offset is not None, "the engine holds stored events only"
    return event.offset
