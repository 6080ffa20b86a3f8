"""A FastAPI shop that tells its customers what becomes of their orders."""

import os
from enum import StrEnum

from fastapi import FastAPI

from broker import AsyncPublisher

app = FastAPI()
publisher = AsyncPublisher(os.environ["GREENROOM_URL"], os.environ["GREENROOM_API_KEY"])
customers = {"5": "7"}


class OrderStatus(StrEnum):
    PAID = "paid"
    SHIPPED = "shipped"


@app.post("/orders/{order_id}/status")
async def update_order_status(order_id: str, status: OrderStatus) -> dict[str, str]:
    room = f"user_{customers[order_id]}"
    await publisher.publish(room, {"type": "order_update", "order_id": order_id, "status": status})
    return {"order_id": order_id, "status": status}
