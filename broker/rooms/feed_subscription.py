"""What the engine's feed brings to one room, on its way into the room's inbox."""

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
"""How much may wait in the inbox; what is more is read from the engine when the room gets to it."""


class FeedSubscription:
    """The room's place on the feed, while somebody is in the room. Never waits: what does not fit is caught up."""

    def __init__(self, room: str) -> None:
        self._room = room
        self._ref: Ref[RoomMessage] | None = None
        self._feed: Feed | None = None
        self._waiting_bytes = 0
        self._is_behind = False

    @property
    def is_open(self) -> bool:
        """Whether everything that is said on any node comes in."""
        return self._feed is not None

    async def open(self, feed: Feed, ref: Ref[RoomMessage]) -> None:
        """Let everything said from now on come into the inbox of `ref`; if cancelled, it does not.

        :raises EngineUnavailableError: if that cannot be done now.
        """
        self._ref = ref
        self._is_behind = False
        await feed.subscribe(self._room, self)
        self._feed = feed

    def close(self) -> None:
        """Let nothing more come in."""
        if self._feed is not None:
            self._feed.unsubscribe(self._room)
            self._feed = None

    def arrived(self, epoch: str, events: Sequence[Event]) -> None:
        """Put what was said into the inbox, if there is space; see FeedListener."""
        size = _size(events)
        if self._is_behind:
            return  # the catch-up that waits will find it
        if self._waiting_bytes and self._waiting_bytes + size > MOST_WAITING_BYTES:
            self.fell_behind()
            return
        if self._put(FeedEvents(epoch, events)):
            self._waiting_bytes += size

    def remote_changed(self, change: RemoteChange) -> None:
        """Put what another node tells into the inbox, if there is space; see FeedListener."""
        if not self._is_behind:
            self._put(RemoteChanged(change))

    def user_removed(self, user_id: str) -> None:
        """Let the room remove a user; see FeedListener."""
        assert self._ref is not None, "open sets it"
        if not self._ref.is_stopping:
            self._ref.tell_always(RemoveHere(user_id))  # bounded by what the application asks for

    def node_lost(self, node: str) -> None:
        """Let the room see what has become of the node's users; see FeedListener."""
        if not self._is_behind:
            self._put(ReadRemoteMembers(node))

    def _put(self, message: RoomMessage) -> bool:
        assert self._ref is not None, "open sets it"
        try:
            self._ref.tell_nowait(message)
        except MailboxFullError:
            self.fell_behind()
        except ActorStoppedError:
            pass  # it was given up with all its members
        else:
            return True
        return False

    def fell_behind(self) -> None:
        """Let the room catch up when it gets to it; see FeedListener."""
        assert self._ref is not None, "open sets it"
        if not self._is_behind and not self._ref.is_stopping:
            self._is_behind = True
            self._ref.tell_always(CatchUp())  # one at a time

    def take(self, arrived: FeedEvents) -> None:
        """Note that an arrival has left the inbox."""
        self._waiting_bytes -= _size(arrived.events)

    def begin_catch_up(self) -> None:
        """Note that the engine is about to be read: what comes from now on is wanted again."""
        self._is_behind = False


def _size(events: Sequence[Event]) -> int:
    return sum(len(event.content) for event in events)
