"""All that a client decides: what to send on a new connection, which message goes where. Pure.

Requests of a room are sent in the order they were made, once the room is joined on the present connection; those
that were not answered are sent again on the next one, with the same id, by which the server knows them.
"""

from collections.abc import Callable

import attrs
import msgspec

from broker.client.effects import ComeBack, Effect, Heard, Message, Send, Settle, TryJoin
from broker.client.errors import ClientError, ConnectionLostError, RefusedError, RemovedError
from broker.client.track import RoomTrack
from broker.errors import CloseCode, ErrorCode
from broker.model import Position

RESEND_SECONDS = 270.0
"""How long after it was first sent a message may be sent again: the server knows its id for 300 s by default."""

JOIN_AGAIN_SECONDS = 1.0
"""When a join is tried again that the server could not serve, if it does not say."""


@attrs.define
class _Request:
    room: str
    text: str
    is_repeatable: bool
    """Whether the server tells a repetition by its id, or a repetition does no harm."""
    resend_seconds: float
    first_sent_at: float | None = None
    is_sent: bool = False


@attrs.define
class ClientCore:
    """The rooms and requests of one client over all its connections.

    Every method returns what is to be done, in order; times are trio's, in seconds.
    """

    make_id: Callable[[], str]
    """Gives an id that no other request of this user has."""
    room_bytes: int
    rooms: dict[str, RoomTrack] = attrs.Factory(dict)
    is_connected: bool = False
    _requests: dict[str, _Request] = attrs.Factory(dict)

    def connected(self, now: float) -> list[Effect]:
        """Begin a connection: every room is joined where it was left."""
        self.is_connected = True
        return [effect for track in self.rooms.values() for effect in self._join(track, now)]

    def disconnected(self, code: int) -> list[Effect]:
        """End a connection that was closed with `code`. What was asked waits for the next, where that can be."""
        self.is_connected = False
        for track in self.rooms.values():
            track.disconnected()
        effects: list[Effect] = []
        sent = {request_id: request for request_id, request in self._requests.items() if request.is_sent}
        if sent and code == CloseCode.MESSAGE_TOO_BIG:
            # One of them was too big for the server, and would be so again.
            largest = max(sent, key=lambda request_id: len(sent[request_id].text))
            del sent[largest]
            refused = RefusedError("message_too_big", "the message is too big for the server")
            effects += self._settle(largest, refused)
        for request_id, request in sent.items():
            request.is_sent = False
            if not request.is_repeatable or request.room not in self.rooms:
                effects += self._settle(request_id, ConnectionLostError("the connection was lost"))
        return effects

    def closed(self, error: ClientError) -> list[Effect]:
        """End it all."""
        self.is_connected = False
        effects = [
            effect for request_id in list(self._requests) for effect in self._settle(request_id, error)
        ]
        for track in self.rooms.values():
            track.end(error)
            effects.append(Heard(track.name))
        return effects

    def join(self, room: str, since: Position | None, now: float) -> list[Effect]:
        """Follow a room.

        :raises ValueError: if it is followed already.
        """
        if room in self.rooms:
            raise ValueError(f"this client is in {room!r} already")
        track = self.rooms[room] = RoomTrack(room, self.room_bytes, since)
        return self._join(track, now)

    def leave(self, room: str) -> list[Effect]:
        """Follow a room no longer; what was asked in it and not sent yet fails."""
        track = self.rooms.pop(room)
        effects: list[Effect] = []
        for request_id, request in list(self._requests.items()):
            if request.room == room and not request.is_sent:
                effects += self._settle(request_id, RemovedError(f"left {room}"))
        if self.is_connected and (track.is_member or track.join_id is not None):
            effects.append(_send({"type": "leave", "room": room, "id": self.make_id()}))
        return effects

    def request(
        self,
        message: Message,
        now: float,
        *,
        is_repeatable: bool = True,
        resend_seconds: float = RESEND_SECONDS,
    ) -> list[Effect]:
        """Ask something of a room; `message` has its `room` and an `id` that is not in use.

        :raises ValueError: if it has no JSON form, or its id is in use.
        """
        request_id, room = message["id"], message["room"]
        if request_id in self._requests:
            raise ValueError(f"id {request_id!r} waits for its answer")
        self._requests[request_id] = _Request(room, _encode(message), is_repeatable, resend_seconds)
        track = self.rooms.get(room)
        if track is None or track.error is not None:
            error = RemovedError(f"not in {room}") if track is None or track.error is None else track.error
            return self._settle(request_id, error)
        return self._send_waiting(track, now)

    def cancel(self, request_id: str) -> None:
        """Forget a request; if it was sent, it may be carried out."""
        self._requests.pop(request_id, None)

    def take(self, room: str, now: float) -> tuple[Message | None, list[Effect]]:
        """Take the next message of a room, None if none waits."""
        track = self.rooms[room]
        message = track.take()
        return message, self._join(track, now)

    def retry_join(self, room: str, now: float) -> list[Effect]:
        """Join now, if that is still to be done."""
        track = self.rooms.get(room)
        return [] if track is None else self._join(track, now)

    def received(self, message: Message, size: int, now: float) -> list[Effect]:
        """Take a message of the server's that was `size` bytes long."""
        match message["type"]:
            case "joined":
                return self._hear_joined(message, size, now)
            case "ack" | "presence" | "history":
                return self._settle(message.get("id", ""), message)
            case "error":
                return self._hear_error(message, now)
            case "left":
                return self._hear_left(message)
            case "reconnect":
                return [ComeBack(message["after_ms"] / 1000)]
            case _:
                return self._hear_other(message, size, now)

    def _join(self, track: RoomTrack, now: float) -> list[Effect]:
        if not self.is_connected or not track.should_join(now):
            return []
        return [_send(track.begin_join(self.make_id()))]

    def _hear_joined(self, message: Message, size: int, now: float) -> list[Effect]:
        track = self.rooms.get(message["room"])
        if track is None or track.join_id is None or track.join_id != message.get("id"):
            return []
        track.hear_joined(message, size)
        return [Heard(track.name), *self._send_waiting(track, now), *self._join(track, now)]

    def _hear_other(self, message: Message, size: int, now: float) -> list[Effect]:
        track = self.rooms.get(message.get("room", ""))
        if track is None:
            return []
        track.hear(message, size)
        return [Heard(track.name), *self._join(track, now)]

    def _hear_left(self, message: Message) -> list[Effect]:
        track = self.rooms.get(message["room"])
        # One with an id answers a leave; one that comes before `joined` is about an earlier stay.
        if track is None or "id" in message or not track.is_member:
            return []
        return self._end_room(track, RemovedError(f"removed from {track.name}"))

    def _hear_error(self, message: Message, now: float) -> list[Effect]:
        request_id = message.get("id")
        if request_id is None:
            return []
        after_ms = message.get("retry_after_ms")
        after_seconds = None if after_ms is None else after_ms / 1000
        refused = RefusedError(message["code"], message["message"], retry_after_seconds=after_seconds)
        for track in self.rooms.values():
            if track.join_id == request_id:
                return self._hear_join_refused(track, refused, now)
        return self._settle(request_id, refused)

    def _hear_join_refused(self, track: RoomTrack, refused: RefusedError, now: float) -> list[Effect]:
        if refused.code not in {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE}:
            return self._end_room(track, refused)
        after_seconds = refused.retry_after_seconds or JOIN_AGAIN_SECONDS
        track.join_id, track.not_before = None, now + after_seconds
        return [TryJoin(track.name, after_seconds)]

    def _end_room(self, track: RoomTrack, error: ClientError) -> list[Effect]:
        track.end(error)
        effects: list[Effect] = [Heard(track.name)]
        for request_id, request in list(self._requests.items()):
            if request.room == track.name and not request.is_sent:
                effects += self._settle(request_id, error)
        return effects

    def _send_waiting(self, track: RoomTrack, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if not self.is_connected or not track.is_member:
            return effects
        for request_id, request in list(self._requests.items()):
            if request.room != track.name or request.is_sent:
                continue
            if request.first_sent_at is None:
                request.first_sent_at = now
            elif now - request.first_sent_at > request.resend_seconds:
                # The server may have forgotten the id, and would say it twice.
                effects += self._settle(
                    request_id, ConnectionLostError("the connection was lost for too long")
                )
                continue
            request.is_sent = True
            effects.append(Send(request.text))
        return effects

    def _settle(self, request_id: str, outcome: Message | ClientError) -> list[Effect]:
        if self._requests.pop(request_id, None) is None:
            return []
        return [Settle(request_id, outcome)]


def _encode(message: Message) -> str:
    return msgspec.json.encode(message).decode()


def _send(message: Message) -> Send:
    return Send(_encode(message))
