"""The messages of one room in order, without repeats, and its recovery. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from broker.client.effects import Message
from broker.client.errors import ClientError
from broker.client.pace import Pace
from broker.model import Position

WantedTags: TypeAlias = Mapping[str, Sequence[str]]
"""A filter: of each name, an event has to have one of the values."""


@attrs.frozen
class _Waiting:
    """A message that waits for the application, with the room's position after it."""

    message: Message
    size: int
    position: Position | None


@attrs.define
class RoomTrack:
    """Keeps a room's messages in order, each once, until the application reads them.

    It is `is_behind` when messages may be missing: before the first join, after a lost connection, when too many bytes
    wait, at a hole in the offsets. It then drops messages until a `joined`, asked for from `position`, has brought
    what was missed, or has said that it cannot.
    """

    name: str
    limit_bytes: int
    """Bound of the bytes that wait for the application; the messages of one `joined` may exceed it."""
    position: Position | None
    """Position of the last event that waits or was read."""
    last: int | None = None
    """How many of the newest events to ask for while there is no position."""
    tags: WantedTags | None = None
    """The filter of each join."""
    is_behind: bool = True
    is_member: bool = False
    """Whether the server has confirmed the join on the present connection."""
    join_id: str | None = None
    """The id of the join without an answer."""
    pace: Pace = attrs.Factory(Pace)
    """The pace of this room's requests."""
    error: ClientError | None = None
    """The error that ended the room."""
    taken: Position | None = None
    """Position of the last event that the application read."""
    joined: Message | None = None
    """The last `joined`, without its messages."""
    _asked_from_position: bool = False
    _waiting: deque[_Waiting] = attrs.Factory(deque)
    _waiting_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self.taken = self.position

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the application."""
        return self._waiting_bytes

    def should_join(self, now: float) -> bool:
        """Whether to send a join on an open connection, to become a member or to recover missed messages."""
        if self.error is not None or self.join_id is not None or now < self.pace.not_before:
            return False
        return not self.is_member or (self.is_behind and self._has_space())

    def begin_join(self, request_id: str) -> Message:
        """Return the join message."""
        self.join_id = request_id
        message: Message = {"type": "join", "room": self.name, "id": request_id}
        # Missed messages are asked for only with space for them; membership alone is joined without.
        self._asked_from_position = self._has_space()
        if self._asked_from_position and self.position is not None:
            message["since"] = {"offset": self.position.offset, "epoch": self.position.epoch}
        elif self.position is None and self.last is not None:
            message["last"] = self.last
        if self.tags:
            message["tags"] = self.tags
        return message

    def disconnected(self) -> None:
        """Note that the connection is gone."""
        self.is_behind, self.is_member, self.join_id, self.pace = True, False, None, Pace()

    def end(self, error: ClientError) -> None:
        """End the room with an error, after the messages that wait."""
        self.disconnected()
        self.error = error

    def receive_joined(self, message: Message, size: int) -> None:
        """Handle the answer to the last join."""
        self.join_id, self.is_member = None, True
        missed = message["messages"]
        self.joined = {key: value for key, value in message.items() if key not in {"messages", "id"}}
        if not self._asked_from_position:
            return
        now_at = Position(message["epoch"], message["offset"])
        before = self.position if missed else now_at
        if before is None:
            before = Position(missed[0]["epoch"], _first_offset(missed[0]) - 1)
        size_each = size // (len(missed) + 1)
        self._put(self.joined, size_each, before)
        for event in missed:
            after = Position(event["epoch"], event.get("offset", event.get("to")))
            if event["type"] == "withheld":
                self._pass_to(after)
            else:
                self._put(event, size_each, after)
        self.position = now_at
        self.is_behind = False

    def receive(self, message: Message, size: int) -> None:
        """Handle any other message of the room."""
        if self.is_behind:
            return
        assert self.position is not None, "joined gave it"
        after = self._position_after(message, self.position)
        if after is None:
            return
        if message["type"] == "withheld":
            self._pass_to(after)
            self.position = after
            return
        if self._waiting and self._waiting_bytes + size > self.limit_bytes:
            self.is_behind = True
            return
        self._put(message, size, after)
        self.position = after

    def next_message(self) -> Message | None:
        """Return the next message; None if none waits."""
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        self._waiting_bytes -= first.size
        self.taken = first.position
        return first.message

    def _position_after(self, message: Message, here: Position) -> Position | None:
        """Return the room's position after this message; None if it is not to be delivered."""
        if message["type"] == "gap":
            if "epoch" not in message:
                # The server reports a hole that it will not fill. A gap in a new epoch begins at 1.
                is_next = message["from"] <= here.offset + 1 <= message["to"]
                return Position(here.epoch, message["to"]) if is_next else here
            first, there = message["from"], Position(message["epoch"], message["to"])
        elif "offset" in message:
            first, there = _first_offset(message), Position(message["epoch"], message["offset"])
        else:
            return here
        if there.epoch == here.epoch:
            if there.offset <= here.offset:
                return None
            if first > here.offset + 1:
                self.is_behind = True
                return None
        return there

    def _pass_to(self, position: Position) -> None:
        """Move behind events that are not for this client: it has them with the message before, if that waits."""
        if self._waiting:
            self._waiting.append(attrs.evolve(self._waiting.pop(), position=position))
        else:
            self.taken = position

    def _has_space(self) -> bool:
        return self._waiting_bytes * 2 <= self.limit_bytes

    def _put(self, message: Message, size: int, position: Position | None) -> None:
        self._waiting.append(_Waiting(message, size, position))
        self._waiting_bytes += size


def _first_offset(message: Message) -> int:
    """Return the offset of an event, or the first of the events in whose place a message is."""
    # A service's message may have a `from` of its own.
    first: int = message["from"] if message["type"] in {"gap", "withheld"} else message["offset"]
    return first
