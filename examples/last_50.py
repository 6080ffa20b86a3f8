"""The last 50 chat messages of a room, then live ones. Run `python last_50.py lobby`."""

import os
import sys
import time

import jwt
import trio

from broker import connect

URL = os.environ.get("GREENROOM_URL", "http://localhost:8000")


async def token() -> str:
    claims = {"sub": "reader", "hidden": True, "exp": time.time() + 3600}  # not shown as a member
    return jwt.encode(claims, os.environ["GREENROOM_SECRET"])


def show(message: dict) -> None:
    if message["type"] == "chat":
        print(f"{message['user_id']}: {message['text']}", flush=True)


async def main(name: str) -> None:
    async with connect(URL, token=token) as client, client.join(name) as room:
        joined = await anext(room)  # later messages come live, also those that the history has by now
        history = await room.history(limit=50, reverse=True)
        for message in reversed(history.messages):
            if message["offset"] <= joined["offset"]:
                show(message)
        async for message in room:
            show(message)


trio.run(main, sys.argv[1])
