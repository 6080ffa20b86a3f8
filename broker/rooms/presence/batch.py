"""Batches of joins and leaves: one notice each would cost the square of a large room's size. Pure."""

from collections.abc import Iterator

from broker.notices import Notice, PresenceChanged, UserJoined, UserLeft

NAMES_PER_NOTICE = 1000
"""A user id has at most 128 characters, so at most 512 bytes: common clients take messages of up to 1 MiB."""


class PresenceBatch:
    """Decides which joins and leaves are sent at once and which wait for the next PresenceChanged.

    Every join and leave is sent exactly once, in the order in which they happened.
    """

    def __init__(self, room: str, above: int) -> None:
        self._room = room
        self._above = above
        self._joined: list[str] = []
        self._left: list[str] = []

    @property
    def is_pending(self) -> bool:
        """Whether joins or leaves wait."""
        return bool(self._joined or self._left)

    def joined(self, user_id: str, room_size: int) -> list[Notice]:
        """Note a join, after which the room has `room_size`; return the notices to send now."""
        if self._must_wait(room_size):
            self._joined.append(user_id)
            return []
        return [UserJoined(self._room, user_id, room_size)]

    def left(self, user_id: str, room_size: int) -> list[Notice]:
        """Note a leave, after which the room has `room_size`; return the notices to send now."""
        if self._must_wait(room_size):
            self._left.append(user_id)
            return []
        return [UserLeft(self._room, user_id, room_size)]

    def _must_wait(self, room_size: int) -> bool:
        # Behind those that wait already, also in a room that has become small, to keep the order.
        return room_size > self._above or self.is_pending

    def take(self, room_size: int) -> list[Notice]:
        """Empty the batch into notices: none, one, or more of at most NAMES_PER_NOTICE names each."""
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
