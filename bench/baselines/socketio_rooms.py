"""Rooms on python-socketio, on uvicorn with uvloop: Socket.IO's own protocol, the article's events.

A member asks for its room and shows its token in the query of its request, WebSocket from the start.
"""

import os
from urllib.parse import parse_qs

import socketio
import uvicorn

from bench.baselines import rooms

_SILENCE_SECONDS = 600
"""The generator answers WebSocket's pings, not those of Engine.IO."""

sizes: dict[str, int] = {}
server = socketio.AsyncServer(async_mode="asgi", ping_interval=_SILENCE_SECONDS)
app = socketio.ASGIApp(server)


@server.event
async def connect(sid: str, environ: dict[str, str]) -> None:
    """Join the room that the query names."""
    query = parse_qs(environ["QUERY_STRING"])
    [room], [token] = query["room"], query["token"]
    user = rooms.user_of(token)
    if user is None:
        raise ConnectionRefusedError("unauthorized")
    await server.save_session(sid, rooms.Guest(room, user))
    await server.enter_room(sid, room)
    sizes[room] = sizes.get(room, 0) + 1
    told = room if sizes[room] <= rooms.TELL_ALL else sid
    await server.emit("user_joined", {"user_id": user, "room_size": sizes[room]}, room=told)


@server.event
async def disconnect(sid: str, _reason: str) -> None:
    """Leave."""
    guest = await server.get_session(sid)
    sizes[guest.room] -= 1
    await server.emit("user_left", {"user_id": guest.user}, room=guest.room)


@server.event
async def chat(sid: str, message: dict[str, str]) -> None:
    """Tell the room."""
    guest = await server.get_session(sid)
    await server.emit("chat", {"user_id": guest.user, "text": message["text"]}, room=guest.room)


@server.event
async def ping(sid: str) -> None:
    """Answer."""
    await server.emit("pong", to=sid)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        ws="websockets-sansio",
        access_log=False,
        log_level="warning",
    )
