"""The feed of appended events to every node, for engines that several nodes share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from broker.engine.presence import RemoteChange
from broker.model import Event


class FeedListener(Protocol):
    """Receives a room's events, and the presence of other nodes in it. No method may block or raise."""

    def arrived(self, epoch: str, events: Sequence[Event]) -> None:
        """Handle the events of one append, in its order."""
        ...

    def fell_behind(self) -> None:
        """Handle that events may have been missed; stored ones can be read."""
        ...

    def remote_changed(self, change: RemoteChange) -> None:
        """Handle another node's announcement of its users in the room."""
        ...

    def user_removed(self, user_id: str) -> None:
        """Handle that another node was asked to remove a user from the room, and has removed its own part."""
        ...

    def node_lost(self, node: str) -> None:
        """Handle that another node has died."""
        ...


class Feed(ABC):
    """Brings the appends of all nodes to the rooms of this one.

    - A listener receives stored events in the order of their offsets; before any gap `fell_behind` is called.
    - Each append made after `subscribe` has returned arrives, the node's own too, or `fell_behind` is called.
    """

    @abstractmethod
    async def subscribe(self, room: str, listener: FeedListener) -> None:
        """Set the one listener of a room on this node. If cancelled, it is not subscribed.

        :raises EngineUnavailableError: if it cannot be subscribed now.
        """

    @abstractmethod
    def unsubscribe(self, room: str) -> None:
        """Remove the listener of a room, if there is one."""
