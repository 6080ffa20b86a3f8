"""The members of a room, again with each change. Run `python members.py lobby`."""

import asyncio
import os
import sys
import time

import jwt

from broker import connect

URL = os.environ.get("GREENROOM_URL", "http://localhost:8000")
CHANGES = {"joined", "user_joined", "user_left", "presence_changed"}


async def token() -> str:
    claims = {"sub": "reader", "hidden": True, "exp": time.time() + 3600}  # not shown as a member
    return jwt.encode(claims, os.environ["GREENROOM_SECRET"])


async def main(name: str) -> None:
    async with connect(URL, token=token) as client, client.join(name) as room:
        async for message in room:
            if message["type"] in CHANGES:  # asked anew, so that it is right after a lost connection too
                presence = await room.presence()
                print(", ".join(sorted(presence.users)) or "nobody", flush=True)


asyncio.run(main(sys.argv[1]))
