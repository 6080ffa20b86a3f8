"""The answers that need no script: to pings, refreshes, and questions about the room. Pure."""

from broker.conformance.room import OTHER_USER, ROOM, USER, Message, PlayedRoom, with_id
from broker.protocol.commands import AnyCommand, History, Leave, Ping, Presence, Refresh, position_of

TOKEN_SECONDS = 3600


def answer(command: AnyCommand, room: PlayedRoom, now: float) -> Message | None:
    """Return the answer to a command; None if the script has it. `now` is Unix seconds."""
    match command:
        case Ping():
            message: Message = {"type": "pong"}
        case Refresh():
            message = {
                "type": "refreshed",
                "expires_at": int(now) + TOKEN_SECONDS,
                "expires_in_ms": TOKEN_SECONDS * 1000,
            }
        case Presence():
            users = [{"user_id": user, "connections": 1} for user in (OTHER_USER, USER)]
            message = {"type": "presence", "room": ROOM, "room_size": len(users), "users": users}
        case History():
            message = room.history(position_of(command.since), command.limit, reverse=command.reverse)
        case Leave():
            message = {"type": "left", "room": ROOM}
        case _:
            return None
    return with_id(message, command.id)
