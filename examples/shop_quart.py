"""A Quart-trio shop and its rooms in one process, on one port."""

import os
from functools import partial

import trio
from quart import request
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server

customers = {"5": "7"}


def make_app(broker: Broker) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.post("/orders/<order_id>/status")
    async def update_order_status(order_id: str) -> dict[str, str]:
        status = request.args["status"]
        room = f"user_{customers[order_id]}"
        await broker.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
        return {"order_id": order_id, "status": status}

    return app


if __name__ == "__main__":
    settings = load_settings(file=None, environ=os.environ, flags={}).settings
    trio.run(partial(run_server, settings, make_app=make_app, on_listening=print))
