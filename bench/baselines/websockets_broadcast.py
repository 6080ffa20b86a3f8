"""Rooms on the package `websockets`, with its `broadcast`, on uvloop: the article's protocol."""

import asyncio
import http
import json
import os
from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bench.baselines import rooms

_BACKLOG = 4096


async def _main() -> None:
    members: defaultdict[str, set[ServerConnection]] = defaultdict(set)

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        guest = rooms.guest_of(connection.request.path)
        if guest is None:
            await connection.close(4001)
            return
        room = members[guest.room]
        room.add(connection)
        broadcast(room if len(room) <= rooms.TELL_ALL else {connection}, rooms.joined(guest.user, len(room)))
        try:
            async for text in connection:
                message = json.loads(text)
                if message.get("type") == "chat":
                    broadcast(room, rooms.chat(guest.user, message["text"]))
                elif message.get("type") == "ping":
                    await connection.send(rooms.PONG)
        except ConnectionClosed:
            pass
        finally:
            room.discard(connection)
            broadcast(room, rooms.left(guest.user))

    def answer_health(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(http.HTTPStatus.OK, "") if request.path == "/health" else None

    async with serve(
        handle, "127.0.0.1", int(os.environ["PORT"]), process_request=answer_health, backlog=_BACKLOG
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
