"""A Quart-trio shop and its rooms in one process, on one port."""

import os

import trio
from quart import request
from quart_trio import QuartTrio

from broker.config.load import load_settings
from broker.server import Broker, open_broker

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


async def main() -> None:
    settings = load_settings(file=None, environ=os.environ, flags={}).settings
    async with open_broker(settings) as broker:
        await broker.serve(app=make_app(broker), on_listening=print)


if __name__ == "__main__":
    trio.run(main)
