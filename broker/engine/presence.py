"""Presence across nodes, for engines that several nodes share.

Each node announces its own users in a room, and only those. Announcements have rising versions; a change names the
version it follows, so that a node that has missed one notices, and reads a snapshot.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs

from broker.model import Position

Counts: TypeAlias = Mapping[str, int]
"""Connections by user id."""


@attrs.frozen
class RemoteChange:
    """A node's announcement of its users in one room."""

    node: str
    version: int
    follows: int
    """The version that it changes; 0 if it holds all users of the node."""
    counts: Counts
    """The present connections of the users named; 0 for a user who left."""


@attrs.frozen
class NodePresence:
    """All users of one node in a room."""

    version: int
    counts: Counts


@attrs.frozen
class RemotePresence:
    """All other nodes' users in a room, up to a version."""

    store_id: str
    """Changes when the engine has lost its presence data, and all nodes announce their users again."""
    version: int
    nodes: Mapping[str, NodePresence]


@attrs.frozen
class RoomSummary:
    """The size and position of a room that has members on any node."""

    room: str
    size: int
    """Connections in the room over all nodes."""
    position: Position


class PresenceBus(ABC):
    """Announces this node's users to the other nodes, and brings this node theirs."""

    @property
    @abstractmethod
    def lease_seconds(self) -> float:
        """How long a silent node is believed to be alive."""

    @abstractmethod
    def set_count(self, room: str, user_id: str, connections: int) -> None:
        """Set how many of a user's connections are in a room on this node; announced as soon as possible."""

    @abstractmethod
    def clear(self, room: str) -> None:
        """Set that a room has no members on this node; announced as soon as possible."""

    @abstractmethod
    async def remove(self, room: str, user_id: str, *, listeners: int) -> None:
        """Have the other nodes remove a user from a room; `listeners` nodes, with this one, should be subscribed.

        :raises EngineUnavailableError: if not all of them were reached; it may be repeated.
        """

    @abstractmethod
    async def list_rooms(self, *, prefix: str, after: str, limit: int) -> list[RoomSummary]:
        """Return rooms with members whose names begin with `prefix`, in the order of names, after the name `after`.

        :raises EngineUnavailableError: if they cannot be read.
        """

    @abstractmethod
    def on_close_user(self, close: Callable[[str], None]) -> None:
        """Set the callback for users whose connections are to be closed, as another node was asked."""

    @abstractmethod
    async def close_user(self, user_id: str) -> None:
        """Have the other nodes close all connections of a user.

        :raises EngineUnavailableError: if not all of them were reached; it may be repeated.
        """

    @abstractmethod
    async def read_remote_presence(self, room: str) -> RemotePresence:
        """Return a room's users on other nodes; those of nodes that have died are removed first.

        :raises EngineUnavailableError: if they cannot be read.
        """
