"""Joins and leaves of a large room, gathered so that they do not cost the square of its size. Pure."""

from collections.abc import Iterator

from broker.notices import Notice, PresenceChanged, UserJoined, UserLeft

NAMES_PER_NOTICE = 1000
"""A user id has at most 128 characters, so at most 512 bytes: common clients take messages of up to 1 MiB."""


class PresenceBatch:
    """Decides which joins and leaves are told at once and which wait for the next PresenceChanged.

    Every join and leave is told exactly once, and all in the order in which they happened.
    """

    def __init__(self, room: str, above: int) -> None:
        self._room = room
        self._above = above
        self._joined: list[str] = []
        self._left: list[str] = []

    @property
    def is_pending(self) -> bool:
        """Whether something waits to be told."""
        return bool(self._joined or self._left)

    def joined(self, user_id: str, room_size: int) -> list[Notice]:
        """Note a join that brought the room to `room_size`; return what to tell now."""
        if self._must_wait(room_size):
            self._joined.append(user_id)
            return []
        return [UserJoined(self._room, user_id, room_size)]

    def left(self, user_id: str, room_size: int) -> list[Notice]:
        """Note a leave that brought the room to `room_size`; return what to tell now."""
        if self._must_wait(room_size):
            self._left.append(user_id)
            return []
        return [UserLeft(self._room, user_id, room_size)]

    def _must_wait(self, room_size: int) -> bool:
        # Behind those that wait already, also in a room that has become small: order, and no notice too soon.
        return room_size > self._above or self.is_pending

    def take(self, room_size: int) -> list[Notice]:
        """Return what has been gathered: one notice, none, or of very much one for each NAMES_PER_NOTICE."""
        joined, left = tuple(self._joined), tuple(self._left)
        self._joined.clear()
        self._left.clear()
        if len(joined) + len(left) <= NAMES_PER_NOTICE:
            return [PresenceChanged(self._room, joined, left, room_size)] if joined or left else []
        return [
            *(PresenceChanged(self._room, names, (), room_size) for names in _pages(joined)),
            *(PresenceChanged(self._room, (), names, room_size) for names in _pages(left)),
        ]


def _pages(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(names), NAMES_PER_NOTICE):
        yield names[start : start + NAMES_PER_NOTICE]
