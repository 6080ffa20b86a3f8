"""A FastAPI shop that tells its customers what becomes of their orders."""

import os
import time
from enum import StrEnum
from pathlib import Path

import jwt
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, PlainTextResponse

from broker import AsyncPublisher
from broker.hooks import SignatureError, verify

app = FastAPI()
publisher = AsyncPublisher(
    os.environ.get("GREENROOM_URL", "http://localhost:8000"), os.environ["GREENROOM_API_KEY"]
)
customers = {"5": "7"}
statuses = {"5": "paid"}
# In a database: `told` is then a unique column, written in the same transaction as `online`.
told: set[str] = set()
online: set[str] = set()


class OrderStatus(StrEnum):
    PAID = "paid"
    SHIPPED = "shipped"


@app.get("/token")
async def token() -> PlainTextResponse:
    user_id = "7"  # whoever is signed in
    claims = {"sub": user_id, "exp": time.time() + 3600}
    return PlainTextResponse(jwt.encode(claims, os.environ["GREENROOM_SECRET"]))


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/orders/{order_id}/status")
async def update_order_status(order_id: str, status: OrderStatus) -> dict[str, str]:
    room = f"user_{customers[order_id]}"
    statuses[order_id] = status
    await publisher.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
    return {"order_id": order_id, "status": status}


@app.post("/webhooks", status_code=204)
async def webhooks(request: Request) -> None:
    try:
        entries = verify(request.headers, await request.body(), os.environ["WEBHOOK_SECRET"])
    except SignatureError:
        raise HTTPException(401) from None
    for entry in entries:
        # An entry may come again.
        if entry["id"] in told:
            continue
        told.add(entry["id"])
        if entry["type"] == "user_online":
            online.add(entry["user"])
        elif entry["type"] == "user_offline":
            online.discard(entry["user"])


@app.get("/online")
async def list_online() -> list[str]:
    return sorted(online)


@app.post("/hook")
async def decide(request: Request) -> dict[str, object]:
    """Greenroom asks whether a customer may join the room of an order, and for the answer to a call there."""
    try:
        ask = verify(request.headers, await request.body(), os.environ["HOOK_SECRET"])
    except SignatureError:
        raise HTTPException(401) from None
    order_id = ask["room"].removeprefix("order-")
    if customers.get(order_id) != ask["user_id"]:
        return {"allow": False, "reason": "not your order"}
    if ask["type"] == "join":
        return {"allow": True}
    if ask["call"]["method"] != "order_status":
        return {"allow": False, "reason": "no such method"}
    return {"allow": True, "data": statuses[order_id]}
