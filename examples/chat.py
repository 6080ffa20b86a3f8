"""A chat in one process: the rooms, the page, and who is online. Run `python chat.py`, and open the address it prints.

`GREENROOM_SECRET` and `GREENROOM_API_KEY` are made up for the run if they are not set.
"""

import os
import secrets
import time
from functools import partial
from pathlib import Path

import jwt
import trio
from quart import request
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server

PAGE = Path(__file__).with_name("chat.html").read_text()
MADE_UP = {"GREENROOM_SECRET": secrets.token_urlsafe(48), "GREENROOM_API_KEY": secrets.token_urlsafe(48)}


def make_app(broker: Broker) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/")
    async def page() -> str:
        return PAGE

    @app.get("/token")
    async def token() -> str:
        # Your application knows who is signed in; here everybody is who they say.
        claims = {"sub": request.args["user"], "exp": time.time() + 3600}
        return jwt.encode(claims, settings.auth.secret)

    @app.get("/online")
    async def online() -> list[str]:
        return sorted({connection.user_id for connection in broker.connections})

    return app


settings = load_settings(file=None, environ=MADE_UP | dict(os.environ), flags={}).settings

if __name__ == "__main__":
    trio.run(partial(run_server, settings, make_app=make_app, on_listening=print))
