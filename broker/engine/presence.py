"""Presence across nodes, for engines that several nodes share.

Each node announces its own members in a room, and only those. Announcements have rising versions; a change names the
version it follows, so that a node that has missed one notices, and reads a snapshot.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import attrs

from broker.model import Position, Shown


@attrs.frozen
class RemoteChange:
    """A node's announcement of its members in one room."""

    node: str
    version: int
    follows: int
    """The version that it changes; 0 if it holds all members of the node."""
    members: Mapping[str, Shown | None]
    """The members named, by connection; None for one that left."""


@attrs.frozen
class NodePresence:
    """All members of one node in a room, by connection."""

    version: int
    members: Mapping[str, Shown]


@attrs.frozen
class RemotePresence:
    """All other nodes' members in a room, up to a version."""

    store_id: str
    """Changes when the engine has lost its presence data, and all nodes announce their members again."""
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
    """Announces this node's members to the other nodes, and brings this node theirs."""

    @property
    @abstractmethod
    def lease_seconds(self) -> float:
        """How long a silent node is believed to be alive."""

    @abstractmethod
    def set_member(self, room: str, connection: str, shown: Shown | None) -> None:
        """Set what a member of a room on this node shows, None if it left; announced as soon as possible."""

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
        """Return a room's members on other nodes; those of nodes that have died are removed first.

        :raises EngineUnavailableError: if they cannot be read.
        """
