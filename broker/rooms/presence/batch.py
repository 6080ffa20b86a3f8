"""Batches of joins, leaves and updates: one notice each would cost the square of a large room's size. Pure."""

from collections.abc import Iterable, Iterator

from broker.model import Shown
from broker.notices import Notice, PresenceChanged, PresenceUpdated, UserJoined, UserLeft

NAMES_PER_NOTICE = 1000
"""A user id has at most 128 characters, so at most 512 bytes: common clients take messages of up to 1 MiB."""

DATA_BYTES_PER_NOTICE = 262_144
"""Info and state in one notice; those of one member may be more."""


class PresenceBatch:
    """Decides which joins, leaves and updates are sent at once and which wait for the next PresenceChanged.

    Every join and leave is sent exactly once, in the order in which they happened. Of the updates of one connection
    the latest is sent. A member that shows data and joins is followed by an update, as a join is only a name.
    """

    def __init__(self, room: str, above: int) -> None:
        self._room = room
        self._above = above
        self._joined: list[str] = []
        self._left: list[str] = []
        self._updated: dict[str, Shown] = {}
        self._gone: dict[str, None] = {}

    @property
    def is_pending(self) -> bool:
        """Whether joins, leaves or updates wait."""
        return bool(self._joined or self._left or self._updated)

    def joined(self, shown: Shown, room_size: int) -> list[Notice]:
        """Note a join, after which the room has `room_size`; return the notices to send now."""
        if not self._must_wait(room_size):
            return [UserJoined(self._room, shown.user_id, room_size, shown if shown.has_data else None)]
        self._joined.append(shown.user_id)
        if shown.has_data:
            self._gone.pop(shown.connection, None)
            self._updated[shown.connection] = shown
        return []

    def left(self, shown: Shown, room_size: int) -> list[Notice]:
        """Note a leave, after which the room has `room_size`; return the notices to send now."""
        if not self._must_wait(room_size):
            return [UserLeft(self._room, shown.user_id, room_size, shown if shown.has_data else None)]
        self._left.append(shown.user_id)
        had_update = self._updated.pop(shown.connection, None) is not None
        if shown.has_data or had_update:
            self._gone[shown.connection] = None
        return []

    def updated(self, shown: Shown, room_size: int) -> list[Notice]:
        """Note that a member of a room of `room_size` shows something else; return the notices to send now."""
        if not self._must_wait(room_size):
            return [PresenceUpdated(self._room, shown)]
        self._updated[shown.connection] = shown
        return []

    def _must_wait(self, room_size: int) -> bool:
        # Behind those that wait already, also in a room that has become small, to keep the order.
        return room_size > self._above or self.is_pending

    def take(self, room_size: int) -> list[Notice]:
        """Empty the batch into notices: none, one, or more of a bounded size each."""
        joined, left, gone = tuple(self._joined), tuple(self._left), tuple(self._gone)
        updated = _pages_of_data(self._updated.values())
        for each in (self._joined, self._left, self._gone, self._updated):
            each.clear()
        room = self._room
        shown = updated[0] if updated else ()
        if len(updated) <= 1 and len(joined) + len(left) + len(gone) + len(shown) <= NAMES_PER_NOTICE:
            is_empty = not (joined or left or updated)
            return [] if is_empty else [PresenceChanged(room, joined, left, room_size, shown, gone)]
        return [
            *(PresenceChanged(room, names, (), room_size) for names in _pages(joined)),
            *(PresenceChanged(room, (), names, room_size) for names in _pages(left)),
            *(PresenceChanged(room, (), (), room_size, gone=ids) for ids in _pages(gone)),
            *(PresenceChanged(room, (), (), room_size, shown) for shown in updated),
        ]


def _pages(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(names), NAMES_PER_NOTICE):
        yield names[start : start + NAMES_PER_NOTICE]


def _pages_of_data(members: Iterable[Shown]) -> list[tuple[Shown, ...]]:
    pages: list[list[Shown]] = []
    size = 0
    for shown in members:
        size += data_bytes(shown)
        if not pages or size > DATA_BYTES_PER_NOTICE or len(pages[-1]) == NAMES_PER_NOTICE:
            pages.append([])
            size = data_bytes(shown)
        pages[-1].append(shown)
    return [tuple(page) for page in pages]


def data_bytes(shown: Shown) -> int:
    """Return the bytes of the info and the state of a member."""
    return len(shown.info or b"") + len(shown.state or b"")
