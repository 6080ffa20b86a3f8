"""What a room knows of those in it. Rooms hold outboxes, never sessions or sockets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from actors import Ref
from broker.errors import CloseCode
from broker.notices import Notice

if TYPE_CHECKING:
    from broker.rooms.messages import RoomMessage


class Codec(Protocol):
    """Turns notices into what one kind of recipient is sent; equal codecs share their frames."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return the notices, in order, as bytes to be written at once."""
        ...


class Outbox(Protocol):
    """Takes what is to be sent to one connection. Never blocks, and holds a bounded number of bytes."""

    @property
    def codec(self) -> Codec:
        """How this outbox wants its frames."""
        ...

    def offer(self, frame: bytes, *, is_bulk: bool = False) -> bool:
        """Take a frame of events, or return False because too much waits; a closed outbox takes all.

        `is_bulk`: it is said to so many that what others say may go out before.
        """
        ...

    def note_lost(self, room: str, offsets: tuple[int, int] | None) -> None:
        """Hear that a refused frame held these offsets (first and last) of a room, None for ephemeral ones."""
        ...

    def reply(self, *notices: Notice) -> None:
        """Take answers to requests; past the outbox's limit the connection ends."""
        ...


class Member(Protocol):
    """One connection's part in its rooms; the same object in each of them."""

    @property
    def user_id(self) -> str:
        """Whose connection it is."""
        ...

    @property
    def is_visible(self) -> bool:
        """Whether it counts and shows as a user in the room; a service that only listens does not."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where to send what is said."""
        ...

    def added_to(self, room: str, ref: "Ref[RoomMessage]") -> None:
        """Note, in the room's turn, that this member is in; its leave goes to `ref`."""
        ...

    def removed_from(self, room: str) -> None:
        """Hear that the application has removed this member from a room, which is already done."""
        ...

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """Begin to end the connection; its leaves come later, as those of any connection that ends."""
        ...
