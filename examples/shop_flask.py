"""A Flask shop that tells its customers what becomes of their orders."""

import os

from flask import Flask, request

from broker import Publisher

app = Flask(__name__)
publisher = Publisher(os.environ["GREENROOM_URL"], os.environ["GREENROOM_API_KEY"])
customers = {"5": "7"}


@app.post("/orders/<order_id>/status")
def update_order_status(order_id: str) -> dict[str, str]:
    status = request.args["status"]
    room = f"user_{customers[order_id]}"
    publisher.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
    return {"order_id": order_id, "status": status}
