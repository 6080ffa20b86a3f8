"""Pointers that all visitors of a page see move, in one process: the room with its code, and the page. Run `python cursors.py`, and open
the address it prints in two windows.

Nothing of it is stored: who joins is told where the pointers are, and from then on where they move. For a reader that is too slow the room
keeps the latest place of each pointer alone. `GREENROOM_SECRET` and `GREENROOM_API_KEY` are made up for the run if they are not set.
"""

import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
import trio
from quart import request
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server
from broker.config.settings import RoomRule
from broker.room_actors import Member, Message, Refusal, RoomActor

PAGE = Path(__file__).with_name("cursors.html").read_text()
DEFAULTS = {"GREENROOM_SECRET": secrets.token_urlsafe(48), "GREENROOM_API_KEY": secrets.token_urlsafe(48)}

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Place = tuple[Share, Share]
"""From the left and from the top, as shares of the page, which has another size in each window."""


class Cursors(RoomActor[None], pattern="cursors.*"):
    """The pointers of a page. It has no state, so nothing is stored; after a failure of its code pointers show when they move."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}  # by connection: a user may have several windows

    async def on_join(self, member: Member) -> None:
        users = {each.connection: each.user_id for each in self.members}
        for connection, place in self.places.items():
            self.say(shown(users[connection], connection, place), to=member)

    async def on_message(self, sender: Member | None, message: Message) -> None:
        if sender is None or message.name != "move":
            raise Refusal("here pointers move, and nothing is said")
        place = message.decode(Place | None)
        if place is None:
            self.remove(sender)
        else:
            self.places[sender.connection] = place
            # Of events with the same tags a slow reader gets the newest alone.
            tags = {"cursor": sender.connection}
            self.say(shown(sender.user_id, sender.connection, place), but=sender, ephemeral=True, tags=tags)

    async def on_leave(self, member: Member) -> None:
        self.remove(member)

    def remove(self, member: Member) -> None:
        if self.places.pop(member.connection, None) is not None:
            tags = {"cursor": member.connection}
            self.say(shown(member.user_id, member.connection, None), but=member, ephemeral=True, tags=tags)


def shown(user: str, connection: str, place: Place | None) -> dict[str, Any]:
    return {"type": "cursor", "user": user, "connection": connection, "place": place}


def make_app(_broker: Broker) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/")
    async def page() -> str:
        return PAGE

    @app.get("/token")
    async def token() -> str:
        # Your application knows who is signed in; here everybody is who they say.
        claims = {"sub": request.args["user"], "exp": time.time() + 3600}
        return jwt.encode(claims, settings.auth.secret)

    return app


settings = load_settings(file=None, environ=DEFAULTS | dict(os.environ), flags={}).settings
settings = msgspec.structs.replace(settings, rooms=(RoomRule(pattern="cursors.*", slow_reader="latest"),))

if __name__ == "__main__":
    trio.run(partial(run_server, settings, make_app=make_app, rooms=[Cursors], on_listening=print))
