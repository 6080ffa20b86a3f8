"""A Quart-trio shop and its rooms in one process, on one port.

`GREENROOM_SECRET` and `GREENROOM_API_KEY` are made up for the run if they are not set.
"""

import os
import secrets
import time
from functools import partial
from pathlib import Path

import jwt
import trio
from quart import Response, request, send_file
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server

MADE_UP = {"GREENROOM_SECRET": secrets.token_urlsafe(48), "GREENROOM_API_KEY": secrets.token_urlsafe(48)}
customers = {"5": "7"}


def make_app(broker: Broker) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/token")
    async def token() -> Response:
        user_id = "7"  # whoever is signed in
        claims = {"sub": user_id, "exp": time.time() + 3600}
        return Response(jwt.encode(claims, settings.auth.secret), content_type="text/plain")

    @app.get("/")
    async def page() -> Response:
        return await send_file(Path(__file__).with_name("page.html"))

    @app.post("/orders/<order_id>/status")
    async def update_order_status(order_id: str) -> dict[str, str]:
        status = request.args["status"]
        room = f"user_{customers[order_id]}"
        await broker.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
        return {"order_id": order_id, "status": status}

    return app


settings = load_settings(file=None, environ=MADE_UP | dict(os.environ), flags={}).settings

if __name__ == "__main__":
    trio.run(partial(run_server, settings, make_app=make_app, on_listening=print))
