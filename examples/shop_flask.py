"""A Flask shop that tells its customers what becomes of their orders."""

import os
import time

import jwt
from flask import Flask, Response, abort, request, send_from_directory

from broker import Publisher
from broker.hooks import SignatureError, verify

app = Flask(__name__)
publisher = Publisher(
    os.environ.get("GREENROOM_URL", "http://localhost:8000"), os.environ["GREENROOM_API_KEY"]
)
customers = {"5": "7"}
statuses = {"5": "paid"}
# In a database: `told` is then a unique column, written in the same transaction as `online`.
told: set[str] = set()
online: set[str] = set()


@app.get("/token")
def token() -> Response:
    user_id = "7"  # whoever is signed in
    claims = {"sub": user_id, "exp": time.time() + 3600}
    return Response(jwt.encode(claims, os.environ["GREENROOM_SECRET"]), content_type="text/plain")


@app.get("/")
def page() -> Response:
    return send_from_directory(app.root_path, "page.html")


@app.post("/orders/<order_id>/status")
def update_order_status(order_id: str) -> dict[str, str]:
    status = statuses[order_id] = request.args["status"]
    room = f"user_{customers[order_id]}"
    publisher.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
    return {"order_id": order_id, "status": status}


@app.post("/webhooks")
def webhooks() -> tuple[str, int]:
    try:
        entries = verify(request.headers, request.get_data(), os.environ["WEBHOOK_SECRET"])
    except SignatureError:
        abort(401)
    for entry in entries:
        # An entry may come again.
        if entry["id"] in told:
            continue
        told.add(entry["id"])
        if entry["type"] == "user_online":
            online.add(entry["user"])
        elif entry["type"] == "user_offline":
            online.discard(entry["user"])
    return "", 204


@app.get("/online")
def list_online() -> list[str]:
    return sorted(online)


@app.post("/hook")
def decide() -> Response | dict[str, object]:
    """Greenroom asks whether a customer may join the room of an order, and for the answer to a call there."""
    try:
        ask = verify(request.headers, request.get_data(), os.environ["HOOK_SECRET"])
    except SignatureError:
        return Response(status=401)
    order_id = ask["room"].removeprefix("order-")
    if customers.get(order_id) != ask["user_id"]:
        return {"allow": False, "reason": "not your order"}
    if ask["type"] == "join":
        return {"allow": True}
    if ask["call"]["method"] != "order_status":
        return {"allow": False, "reason": "no such method"}
    return {"allow": True, "data": statuses[order_id]}
