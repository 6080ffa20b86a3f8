"""Messages between the nodes that share an engine, about one room each."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol


class PeerListener(Protocol):
    """Receives the messages of other nodes. Neither method may block or raise."""

    def message_came(self, room: str, node: str, message: bytes) -> None:
        """Handle the message of a node about a room."""
        ...

    def fell_behind(self) -> None:
        """Handle that messages may have been missed."""
        ...


class Peers(ABC):
    """Sends messages to single nodes.

    - Messages of one node about one room arrive in the order in which they were sent, behind the events of the room
      that were appended before; some may be missed, which `fell_behind` tells the recipient.
    - A message arrives once at most.
    """

    @property
    @abstractmethod
    def node(self) -> str:
        """The id of this node, which no other has had or will have."""

    @abstractmethod
    def listen(self, listener: PeerListener) -> None:
        """Set the one listener, once; before that, no node can send anything to this one."""

    @abstractmethod
    def send_nowait(
        self, room: str, node: str, message: bytes, on_done: Callable[[bool | None], None]
    ) -> None:
        """Send a message, later in the order of the calls.

        `on_done` is called once, with whether the node was there to receive it, or None if that is not known; it must
        not raise.
        """
