"""The decisions of a client: what to send on a connection, and where each message goes. Pure.

Requests of a room are sent in the order they were made, once the room is joined on the present connection; those
without an answer are sent again on the next one, with the same id, by which the server knows them. Requests refused
temporarily (`rate_limited`, `unavailable`) are resent after `retry_after_ms`, ahead of the room's queued requests.
Requests that were in flight at that moment may still be applied first.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs

from broker.client.effects import (
    Effect,
    Message,
    ReconnectLater,
    Refreshed,
    RetryLater,
    RoomChanged,
    Send,
    Settle,
)
from broker.client.errors import (
    ClientError,
    ConnectionLostError,
    RefusedError,
    RemovedError,
    UnavailableError,
)
from broker.client.pace import PATIENCE_SECONDS
from broker.client.track import RoomTrack, WantedTags
from broker.client.wire import write_message
from broker.errors import CloseCode, ErrorCode
from broker.model import Position

Kind: TypeAlias = Literal["send", "ask", "once"]
"""Handling of a request whose connection was lost: a `send` is sent again while the server knows its id, an `ask` is
always sent again, and a `once` fails."""

RESEND_SECONDS = 240.0
"""How long after a `send` may have been applied it may be sent again; the server knows its id for 300 s by default."""

RETRY_SECONDS = 1.0
"""Delay after a temporary refusal without `retry_after_ms`."""

_FOR_NOW = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE})


@attrs.define
class _Request:
    room: str
    text: str
    kind: Kind
    is_under_way: bool = False
    """Whether it was sent on the present connection, and has no answer yet."""
    sent_at: float | None = None
    """When it was last sent."""
    in_doubt_since: float | None = None
    """Since when it is unknown whether it was applied."""

    def doubt(self) -> None:
        """Note that it is unknown whether it was applied."""
        if self.in_doubt_since is None:
            self.in_doubt_since = self.sent_at

    def is_too_late(self, now: float) -> bool:
        """Whether the server may have applied it and forgotten its id, and would apply it twice."""
        if self.kind == "ask" or self.in_doubt_since is None:
            return False
        return now - self.in_doubt_since > RESEND_SECONDS


@attrs.define
class ClientCore:
    """The rooms and requests of one client over all its connections.

    Every method returns the effects to carry out, in order. Times are in seconds, of a monotonic clock that goes on while
    the machine sleeps, as the server forgets ids meanwhile.
    """

    make_id: Callable[[], str]
    """Gives an id that no other request of this user has."""
    room_bytes: int
    rooms: dict[str, RoomTrack] = attrs.Factory(dict)
    is_connected: bool = False
    _requests: dict[str, _Request] = attrs.Factory(dict)
    _leaves: dict[str, str] = attrs.Factory(dict)
    """The leave of each room that has no answer yet."""
    _nameless: list[Message] = attrs.Factory(list)
    """Refusals on the present connection without an id; see `_settle_nameless`."""

    def connected(self, now: float) -> list[Effect]:
        """Begin a connection: every room is joined where it was left."""
        self.is_connected = True
        return [effect for track in self.rooms.values() for effect in self._join(track, now)]

    def disconnected(self, code: int) -> list[Effect]:
        """End a connection that was closed with `code`. Requests wait for the next, where they may be sent again."""
        self.is_connected = False
        self._leaves.clear()
        self._nameless.clear()
        for track in self.rooms.values():
            track.disconnected()
        effects: list[Effect] = []
        under_way = {key: request for key, request in self._requests.items() if request.is_under_way}
        if under_way and code == CloseCode.MESSAGE_TOO_BIG:
            # One of them was too big for the server, and would be so again.
            largest = max(under_way, key=lambda request_id: len(under_way[request_id].text))
            refused = RefusedError("message_too_big", "the message is too big for the server")
            effects += self._settle(largest, refused)
        for request_id, request in list(self._requests.items()):
            if request.is_under_way:
                request.is_under_way = False
                request.doubt()
            is_given_up = request.sent_at is not None and request.kind == "once"
            if is_given_up or request.room not in self.rooms:
                effects += self._settle(request_id, ConnectionLostError("the connection was lost"))
        return effects

    def closed(self, error: ClientError) -> list[Effect]:
        """End all rooms and requests."""
        self.is_connected = False
        effects = [
            effect for request_id in list(self._requests) for effect in self._settle(request_id, error)
        ]
        for track in self.rooms.values():
            track.end(error)
            effects.append(RoomChanged(track.name))
        return effects

    def join(
        self,
        room: str,
        since: Position | None,
        now: float,
        last: int | None = None,
        tags: WantedTags | None = None,
    ) -> list[Effect]:
        """Follow a room, from the position `since` or with the `last` events before; with `tags`, of all only some.

        :raises ValueError: if it is followed already.
        :raises NotSentError: if the name or the tags cannot be written.
        """
        if room in self.rooms:
            raise ValueError(f"this client is in {room!r} already")
        # A name that cannot be written is refused here, not on the connection later.
        write_message({"room": room, "epoch": None if since is None else since.epoch, "tags": tags})
        track = self.rooms[room] = RoomTrack(room, self.room_bytes, since, last, tags)
        return self._join(track, now)

    def leave(self, room: str) -> list[Effect]:
        """Stop following a room; its requests that are not in flight fail."""
        track = self.rooms.pop(room)
        effects = self._end_waiting(room, lambda _: RemovedError(f"left {room}"))
        # The server may still have us as a member from before, if it refused that leave.
        if self.is_connected and (track.is_member or track.join_id is not None or room in self._leaves):
            effects.append(self._send_leave(room))
        return effects

    def request(self, message: Message, now: float, kind: Kind = "send") -> list[Effect]:
        """Add a request; `message` has its `room` and an `id` that is not in use.

        :raises ValueError: if its id is in use.
        :raises NotSentError: if it cannot be written; see `write_message`.
        """
        request_id, room = message["id"], message["room"]
        if request_id in self._requests:
            raise ValueError(f"id {request_id!r} waits for its answer")
        self._requests[request_id] = _Request(room, write_message(message), kind)
        track = self.rooms.get(room)
        if track is None or track.error is not None:
            error = RemovedError(f"not in {room}") if track is None or track.error is None else track.error
            return self._settle(request_id, error)
        return self._send_waiting(track, now)

    def cancel(self, request_id: str, now: float) -> list[Effect]:
        """Forget a request without an answer; if it was sent, it may be applied."""
        request = self._requests.pop(request_id, None)
        return [] if request is None else self._send_next(request.room, now)

    def next_message(self, room: str, now: float) -> tuple[Message | None, list[Effect]]:
        """Return the next message of a room, None if none waits."""
        track = self.rooms[room]
        message = track.next_message()
        return message, self._join(track, now)

    def retry(self, room: str, now: float) -> list[Effect]:
        """Send again what the server has refused temporarily, if it is still to be sent."""
        track = self.rooms.get(room)
        if track is not None:
            return [*self._join(track, now), *self._send_waiting(track, now)]
        return [self._send_leave(room)] if room in self._leaves else []

    def received(self, message: Message, size: int, now: float) -> list[Effect]:
        """Handle a message of the server, `size` bytes long."""
        effects = self._received(message, size, now)
        return effects + self._settle_nameless(now) if self._nameless else effects

    def _received(self, message: Message, size: int, now: float) -> list[Effect]:
        match message["type"]:
            case "joined":
                return self._on_joined(message, size, now)
            # A `result` with a room is an event of a service, which may use the type too.
            case "ack" | "presence" | "history" | "result" if (
                message["type"] != "result" or "room" not in message
            ):
                return self._on_answer(message.get("id", ""), message, now)
            case "error":
                return self._on_error(message, now)
            case "left":
                return self._on_left(message)
            case "reconnect" | "refreshed":
                return [_of_connection(message)]
            case _:
                return self._on_other(message, size, now)

    def _join(self, track: RoomTrack, now: float) -> list[Effect]:
        if not self.is_connected or not track.should_join(now):
            return []
        return [_send(track.begin_join(self.make_id()))]

    def _on_joined(self, message: Message, size: int, now: float) -> list[Effect]:
        track = self.rooms.get(message["room"])
        if track is None or track.join_id is None or track.join_id != message.get("id"):
            return []
        track.receive_joined(message, size)
        return [RoomChanged(track.name), *self._send_waiting(track, now), *self._join(track, now)]

    def _on_other(self, message: Message, size: int, now: float) -> list[Effect]:
        track = self.rooms.get(message.get("room", ""))
        if track is None:
            return []
        track.receive(message, size)
        return [RoomChanged(track.name), *self._join(track, now)]

    def _on_left(self, message: Message) -> list[Effect]:
        track = self.rooms.get(message["room"])
        if "id" in message:
            if self._leaves.get(message["room"]) == message["id"]:
                del self._leaves[message["room"]]
            return []
        # Before `joined` it is about an earlier membership.
        if track is None or not track.is_member:
            return []
        return self._end_room(track, RemovedError(f"removed from {track.name}"))

    def _on_error(self, message: Message, now: float) -> list[Effect]:
        request_id = message.get("id")
        if request_id is None:
            self._nameless.append(message)
            return []
        after_ms = message.get("retry_after_ms")
        after_seconds = None if after_ms is None else after_ms / 1000
        refused = RefusedError(message["code"], message["message"], retry_after_seconds=after_seconds)
        for track in self.rooms.values():
            if track.join_id == request_id:
                return self._on_join_refused(track, refused, now)
        for room, leave_id in self._leaves.items():
            if leave_id == request_id:
                return self._on_leave_refused(room, refused)
        if refused.code in _FOR_NOW:
            return self._on_refused_for_now(request_id, refused, now)
        return self._on_answer(request_id, refused, now)

    def _settle_nameless(self, now: float) -> list[Effect]:
        """Settle requests that were refused without an id, once no others are in flight.

        Each such error answers one request. When as many requests are left as such errors have come, they are the refused
        ones. Until then no more are sent.
        """
        under_way = [key for key, request in self._requests.items() if request.is_under_way]
        under_way += [track.join_id for track in self.rooms.values() if track.join_id is not None]
        under_way += self._leaves.values()
        if len(under_way) > len(self._nameless):
            return []
        refused, self._nameless = self._nameless, []
        effects: list[Effect] = []
        for request_id, error in zip(under_way, refused, strict=False):
            effects += self._on_error(error | {"id": request_id}, now)
        for track in self.rooms.values():
            effects += self._send_waiting(track, now)
        return effects

    def _on_answer(self, request_id: str, outcome: Message | ClientError, now: float) -> list[Effect]:
        request = self._requests.get(request_id)
        if request is None:
            return []
        if request.room in self.rooms:
            self.rooms[request.room].pace.answered()
        return [*self._settle(request_id, outcome), *self._send_next(request.room, now)]

    def _on_join_refused(self, track: RoomTrack, refused: RefusedError, now: float) -> list[Effect]:
        if refused.code not in _FOR_NOW:
            return self._end_room(track, refused)
        track.join_id = None
        track.pace.wait(now, _wait_seconds(refused))
        return [RetryLater(track.name, _wait_seconds(refused))]

    def _on_leave_refused(self, room: str, refused: RefusedError) -> list[Effect]:
        if refused.code in _FOR_NOW:
            # A late leave must not end a membership that has begun since.
            return [] if room in self.rooms else [RetryLater(room, _wait_seconds(refused))]
        del self._leaves[room]
        return []

    def _on_refused_for_now(self, request_id: str, refused: RefusedError, now: float) -> list[Effect]:
        request = self._requests.get(request_id)
        if request is None:
            return []
        track = self.rooms.get(request.room)
        if track is None or track.error is not None:
            return self._settle(request_id, refused)
        request.is_under_way = False
        if refused.code == ErrorCode.UNAVAILABLE:
            # The engine may have stored it and not been able to say so.
            request.doubt()
        if track.pace.refused(now, _wait_seconds(refused)):
            return [RetryLater(track.name, _wait_seconds(refused))]
        return self._end_waiting(track.name, lambda key: _gave_up(key, refused))

    def _end_room(self, track: RoomTrack, error: ClientError) -> list[Effect]:
        track.end(error)
        return [RoomChanged(track.name), *self._end_waiting(track.name, lambda _: error)]

    def _end_waiting(self, room: str, error_of: Callable[[str], ClientError]) -> list[Effect]:
        """Fail the requests of a room that are not in flight; `error_of` is given the id."""
        effects: list[Effect] = []
        for request_id, request in list(self._requests.items()):
            if request.room == room and not request.is_under_way:
                effects += self._settle(request_id, error_of(request_id))
        return effects

    def _send_next(self, room: str, now: float) -> list[Effect]:
        """Send requests that waited for another to end."""
        track = self.rooms.get(room)
        return [] if track is None else self._send_waiting(track, now)

    def _send_waiting(self, track: RoomTrack, now: float) -> list[Effect]:
        requests = [(key, request) for key, request in self._requests.items() if request.room == track.name]
        if not requests:
            track.pace.emptied()
        if not self.is_connected or self._nameless or not track.is_member or now < track.pace.not_before:
            return []
        effects: list[Effect] = []
        is_free = not any(request.is_under_way for _, request in requests)
        for request_id, request in requests:
            if track.pace.is_one_by_one and not is_free:
                break
            if request.is_under_way:
                continue
            if request.is_too_late(now):
                lost = ConnectionLostError("no answer came for too long; it may have been carried out")
                effects += self._settle(request_id, lost)
                continue
            request.is_under_way, request.sent_at, is_free = True, now, False
            effects.append(Send(request.text))
        return effects

    def _send_leave(self, room: str) -> Send:
        self._leaves[room] = self.make_id()
        return _send({"type": "leave", "room": room, "id": self._leaves[room]})

    def _settle(self, request_id: str, outcome: Message | ClientError) -> list[Effect]:
        if self._requests.pop(request_id, None) is None:
            return []
        return [Settle(request_id, outcome)]


def _gave_up(request_id: str, refused: RefusedError) -> UnavailableError:
    return UnavailableError(
        f"{refused}; gave up after {PATIENCE_SECONDS:g} s",
        idempotency_key=request_id,
        retry_after_seconds=refused.retry_after_seconds,
    )


def _wait_seconds(refused: RefusedError) -> float:
    return refused.retry_after_seconds or RETRY_SECONDS


def _of_connection(message: Message) -> Effect:
    if message["type"] == "reconnect":
        return ReconnectLater(message["after_ms"] / 1000)
    left_ms = message.get("expires_in_ms")
    return Refreshed(message["expires_at"], None if left_ms is None else left_ms / 1000)


def _send(message: Message) -> Send:
    return Send(write_message(message))
