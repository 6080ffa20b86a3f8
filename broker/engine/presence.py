"""Who is in rooms on other nodes, for engines that several nodes share.

Each node tells of its own users in a room, and only of those. What it tells has a version that rises; a change says
which version it follows, so that whoever has missed one knows, and reads everything.
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
    """What a node tells of its users in one room."""

    node: str
    version: int
    follows: int
    """The version that it changes; 0 if it tells everything, whoever is not named is gone then."""
    counts: Counts
    """The connections that users have now, 0 for one who is gone."""


@attrs.frozen
class NodePresence:
    """All users of one node in a room."""

    version: int
    counts: Counts


@attrs.frozen
class RemotePresence:
    """All other nodes' users in a room, up to a version."""

    board: str
    """Changes when everything that was known of everybody has been lost, and is told anew."""
    version: int
    nodes: Mapping[str, NodePresence]


@attrs.frozen
class RoomGlance:
    """A room that somebody is in, on whatever node."""

    room: str
    size: int
    """Connections in the room over all nodes."""
    position: Position


class Presence(ABC):
    """Tells the other nodes who is in rooms here, and this node who is there."""

    @property
    @abstractmethod
    def lease_seconds(self) -> float:
        """How long a node that says nothing is taken to be alive."""

    @abstractmethod
    def set_count(self, room: str, user_id: str, connections: int) -> None:
        """Tell, as soon as it can be told, how many of a user's connections are in a room on this node."""

    @abstractmethod
    def clear(self, room: str) -> None:
        """Tell that nobody is in a room on this node."""

    @abstractmethod
    async def remove(self, room: str, user_id: str, *, listeners: int) -> None:
        """Have the other nodes remove a user from a room, in which so many nodes (this one too) should listen.

        :raises EngineUnavailableError: if not all of them have heard it; it may be repeated.
        """

    @abstractmethod
    async def list_rooms(self, *, prefix: str, after: str, limit: int) -> list[RoomGlance]:
        """Return the rooms that somebody is in whose names begin with `prefix`, by name, from the one behind `after`.

        :raises EngineUnavailableError: if it cannot be told.
        """

    @abstractmethod
    def on_close_user(self, close: Callable[[str], None]) -> None:
        """Let `close` be called with a user whose connections another node was asked to close."""

    @abstractmethod
    async def close_user(self, user_id: str) -> None:
        """Have the other nodes close all connections of a user.

        :raises EngineUnavailableError: if not all of them have heard it; it may be repeated.
        """

    @abstractmethod
    async def read_remote_presence(self, room: str) -> RemotePresence:
        """Return who is in a room on other nodes; dead ones are buried with their users.

        :raises EngineUnavailableError: if it cannot be told.
        """
