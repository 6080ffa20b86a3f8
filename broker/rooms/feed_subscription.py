"""A room's subscription to the engine's feed, which puts events into the room's mailbox."""

from collections.abc import Sequence

from actors import ActorStoppedError, MailboxFullError, Ref
from broker.engine.feed import Feed
from broker.engine.presence import RemoteChange
from broker.model import Event
from broker.rooms.messages import (
    CatchUp,
    FeedEvents,
    ReadRemoteMembers,
    RemoteChanged,
    RemoveHere,
    RoomMessage,
)

MOST_WAITING_BYTES = 4 << 20
"""Most content of feed events in the mailbox; more than that is read from the engine by a catch-up."""


class FeedSubscription:
    """Open while the room has members. Never blocks: events that do not fit are left to a catch-up."""

    def __init__(self, room: str) -> None:
        self._room = room
        self._ref: Ref[RoomMessage] | None = None
        self._feed: Feed | None = None
        self._waiting_bytes = 0
        self._is_behind = False

    @property
    def is_open(self) -> bool:
        """Whether the events of all nodes come in."""
        return self._feed is not None

    async def open(self, feed: Feed, ref: Ref[RoomMessage]) -> None:
        """Subscribe: later events go into the mailbox of `ref`. If cancelled, it is not subscribed.

        :raises EngineUnavailableError: if the feed cannot subscribe now.
        """
        self._ref = ref
        self._is_behind = False
        await feed.subscribe(self._room, self)
        self._feed = feed

    def close(self) -> None:
        """Unsubscribe."""
        if self._feed is not None:
            self._feed.unsubscribe(self._room)
            self._feed = None

    def arrived(self, epoch: str, events: Sequence[Event]) -> None:
        """Put events into the mailbox, if there is space; see FeedListener."""
        size = _size(events)
        if self._is_behind:
            return  # the waiting catch-up reads them
        if self._waiting_bytes and self._waiting_bytes + size > MOST_WAITING_BYTES:
            self.fell_behind()
            return
        self._waiting_bytes += size
        if not self._put(FeedEvents(epoch, events)):
            self._waiting_bytes -= size

    def remote_changed(self, change: RemoteChange) -> None:
        """Put a change of presence into the mailbox, if there is space; see FeedListener."""
        if not self._is_behind:
            self._put(RemoteChanged(change))

    def user_removed(self, user_id: str) -> None:
        """Let the room remove a user; see FeedListener."""
        assert self._ref is not None, "open sets it"
        if not self._ref.is_stopping:
            self._ref.tell_always(RemoveHere(user_id))  # bounded by the application's requests

    def node_lost(self, node: str) -> None:
        """Let the room read which of the node's users are left; see FeedListener."""
        if not self._is_behind:
            self._put(ReadRemoteMembers(node))

    def _put(self, message: RoomMessage) -> bool:
        assert self._ref is not None, "open sets it"
        try:
            self._ref.tell_nowait(message)
        except MailboxFullError:
            self.fell_behind()
        except ActorStoppedError:
            pass  # the room was given up, with all its members
        else:
            return True
        return False

    def fell_behind(self) -> None:
        """Put a catch-up into the mailbox; see FeedListener."""
        assert self._ref is not None, "open sets it"
        if not self._is_behind and not self._ref.is_stopping:
            self._is_behind = True
            self._ref.tell_always(CatchUp())  # at most one at a time

    def note_handled(self, batch: FeedEvents) -> None:
        """Note that a batch has left the mailbox."""
        self._waiting_bytes -= _size(batch.events)

    def begin_catch_up(self) -> None:
        """Accept events again, as the engine is about to be read."""
        self._is_behind = False


def _size(events: Sequence[Event]) -> int:
    if len(events) == 1:  # as a rule
        return len(events[0].content)
    return sum(len(event.content) for event in events)
