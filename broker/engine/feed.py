"""How what is appended reaches every node, for engines that several nodes share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from broker.engine.presence import RemoteChange
from broker.model import Event


class FeedListener(Protocol):
    """Hears what is said in one room and who is there on other nodes. No method may block or raise."""

    def arrived(self, epoch: str, events: Sequence[Event]) -> None:
        """Take what one append has added, in its order."""
        ...

    def fell_behind(self) -> None:
        """Hear that something may have been missed; what was stored can be read."""
        ...

    def remote_changed(self, change: RemoteChange) -> None:
        """Take what another node tells of its users in the room."""
        ...

    def user_removed(self, user_id: str) -> None:
        """Hear that another node was asked to remove a user from the room, and has done its part."""
        ...

    def node_lost(self, node: str) -> None:
        """Hear that another node has died."""
        ...


class Feed(ABC):
    """Brings what is appended to rooms on any node.

    - A listener hears of stored events in the order of their offsets, but for what it was told it may have missed.
    - Every append made after `subscribe` has returned is heard, or `fell_behind` is called; also the node's own.
    """

    @abstractmethod
    async def subscribe(self, room: str, listener: FeedListener) -> None:
        """Let a room's one listener on this node hear what is said from now on; if cancelled, it does not.

        :raises EngineUnavailableError: if that cannot be done now.
        """

    @abstractmethod
    def unsubscribe(self, room: str) -> None:
        """Let a room's listener hear no more, if there is one."""
