"""The room that the kit plays: its events, and the answers that follow from them. Pure."""

from collections.abc import Iterator
from itertools import count
from typing import Any, TypeAlias

import attrs
import msgspec

from broker.model import Position
from broker.notices import RequestId

Message: TypeAlias = dict[str, Any]

ROOM = "conformance"
USER = "tester"
OTHER_USER = "kit"
"""The user who says what the client did not."""

PAGE_BYTES = 512 << 10
"""As `history.page_bytes`: what a `joined` holds at most."""
EARLIER = 5
"""Events before the first join, so that no offset is 0 and a new epoch begins with lower ones."""
_TIME_MS = 1_790_000_000_000


@attrs.define
class PlayedRoom:
    """The events of one room, with their positions."""

    offset: int = 0
    _epochs: Iterator[int] = attrs.Factory(lambda: count(1))
    epoch: str = ""
    _held: list[Message] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.begin_epoch()
        for number in range(EARLIER):
            self.store({"type": "chat", "user_id": OTHER_USER, "text": f"before the first join {number + 1}"})

    @property
    def position(self) -> Position:
        """That of the last event."""
        return Position(self.epoch, self.offset)

    def store(self, content: Message) -> Message:
        """Store an event, and return it as the protocol has it."""
        self.offset += 1
        place = {"room": ROOM, "offset": self.offset, "epoch": self.epoch, "time": _TIME_MS + self.offset}
        self._held.append({**content, **place})
        return self._held[-1]

    def withhold(self) -> Message:
        """Store an event that is not for the client, and return the `withheld` that stands in its place."""
        self.offset += 1
        place = {"room": ROOM, "from": self.offset, "offset": self.offset, "epoch": self.epoch}
        self._held.append({"type": "withheld", **place})
        return self._held[-1]

    def forget(self) -> None:
        """Hold no event any more; offsets go on."""
        self._held.clear()

    def begin_epoch(self) -> None:
        """Begin a new epoch without any events."""
        self.epoch, self.offset = f"epoch-{next(self._epochs)}", 0
        self.forget()

    def joined(self, since: Position | None, request_id: RequestId, last: int | None = None) -> list[Message]:
        """Return the answer to a join, and the missed events that are more than one page."""
        missed = None if since is None else self._after(since)
        newest = self._held[-last:] if last is not None else []
        here: list[Message] = []
        size = 0
        for event in missed or ():
            size += len(msgspec.json.encode(event))
            if size > PAGE_BYTES:
                break
            here.append(event)
        rest = (missed or [])[len(here) :]
        answer: Message = {
            "type": "joined",
            "room": ROOM,
            "room_size": 2,
            "offset": here[-1]["offset"] if rest else self.offset,
            "epoch": self.epoch,
            "recovered": missed is not None,
            "messages": newest or here,
        }
        return [with_id(answer, request_id), *rest]

    def history(self, since: Position | None, limit: int | None, *, reverse: bool) -> Message:
        """Return the answer to a `history` request."""
        is_here = since is not None and since.epoch == self.epoch
        after = since.offset if is_here and since is not None else 0
        events = [event for event in self._held if event["offset"] > after]
        if reverse:
            events.reverse()
        page = {"messages": events[:limit], "offset": self.offset, "epoch": self.epoch}
        return {"type": "history", "room": ROOM, **page}

    def _after(self, since: Position) -> list[Message] | None:
        """Return the events after a position; None if they are not all held."""
        if since.epoch != self.epoch or not 0 <= since.offset <= self.offset:
            return None
        missed = [event for event in self._held if event["offset"] > since.offset]
        return missed if len(missed) == self.offset - since.offset else None


def with_id(answer: Message, request_id: RequestId) -> Message:
    """Return an answer with the id of its request, if that has one."""
    return answer if request_id is None else {**answer, "id": request_id}
