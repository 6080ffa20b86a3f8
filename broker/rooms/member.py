"""The interface of a room's members. Rooms hold outboxes, never sessions or sockets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from actors import Ref
from broker.errors import CloseCode
from broker.model import Shown
from broker.notices import Notice
from broker.rooms.frame import RoomFrame

if TYPE_CHECKING:
    from broker.rooms.messages import RoomMessage


class Codec(Protocol):
    """Encodes notices for one kind of recipient; equal codecs share their frames."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return the notices, in order, as one frame."""
        ...


class Outbox(Protocol):
    """The bounded queue of frames of one connection. Never blocks."""

    @property
    def codec(self) -> Codec:
        """The encoding of its frames."""
        ...

    def offer(self, frame: RoomFrame) -> bool:
        """Queue a frame of events, or return False if too much waits; a closed outbox drops it and returns True."""
        ...

    def write_or_offer(self, frame: RoomFrame) -> bool:
        """Write a frame of events at once if nothing waits; else, and with what is not written at once, as `offer`.

        Cheaper than `offer` for a frame with many recipients; they take time, which the caller has to divide.
        """
        ...

    def hold(self, frame: RoomFrame) -> int:
        """Treat a frame that was just refused by the policy of its room.

        Returns how many notices are lost by that: its own, or older ones of the room that waited.
        """
        ...

    def release(self, room: str) -> None:
        """Queue what is held back of a room, as an answer follows that has a later position."""
        ...

    def reply(self, *notices: Notice) -> None:
        """Queue notices for this member alone; past the outbox's limit the connection ends."""
        ...


class Member(Protocol):
    """One connection's part in its rooms; the same object in each of them."""

    @property
    def user_id(self) -> str:
        """The user of this connection."""
        ...

    @property
    def is_visible(self) -> bool:
        """Whether it counts and shows as a user in the room; a service that only listens does not."""
        ...

    @property
    def outbox(self) -> Outbox:
        """The queue of its frames."""
        ...

    @property
    def shown(self) -> Shown:
        """The part of it that other members see, without a state, which is one room's."""
        ...

    def added_to(self, room: str, ref: "Ref[RoomMessage]") -> None:
        """Note, in the room's turn, that this member is in; its leave goes to `ref`."""
        ...

    def removed_from(self, room: str) -> None:
        """Note that the application has removed this member from a room; the room has done its part."""
        ...

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """Start to close the connection; its leaves follow, as for any connection that ends."""
        ...
