"""A Django shop that tells its customers what becomes of their orders.

The message goes out in a thread once the transaction is committed, so that the request waits for neither.
"""

import logging
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jwt
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from broker import Publisher
from broker.client import Published
from broker.hooks import SignatureError, verify

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["GREENROOM_SECRET"],
)

# A minute, as nobody waits: it outlives a restart of the server.
publisher = Publisher(
    os.environ.get("GREENROOM_URL", "http://localhost:8000"),
    os.environ["GREENROOM_API_KEY"],
    timeout_seconds=60,
)
background = ThreadPoolExecutor(1)
customers = {"5": "7"}
statuses = {"5": "paid"}
# In a model: `told` is then a unique field, saved in the same transaction as `online`.
told: set[str] = set()
online: set[str] = set()


def note_failure(done: Future[Published]) -> None:
    if error := done.exception():
        logging.error("a customer was not told", exc_info=error)


def token(request: HttpRequest) -> HttpResponse:
    user_id = "7"  # request.user.pk
    claims = {"sub": user_id, "exp": time.time() + 3600}
    return HttpResponse(jwt.encode(claims, os.environ["GREENROOM_SECRET"]), content_type="text/plain")


def page(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html").open("rb"))


@csrf_exempt
@transaction.atomic
def update_order_status(request: HttpRequest, order_id: str) -> JsonResponse:
    status = statuses[order_id] = request.GET["status"]
    room = f"user_{customers[order_id]}"
    message = {"type": "order_update", "order_id": order_id, "status": status}
    # Stored once, however often the request is repeated within five minutes.
    publish = {"idempotency_key": f"order-{order_id}-{status}"}
    transaction.on_commit(
        lambda: background.submit(publisher.publish, room, message, **publish).add_done_callback(note_failure)
    )
    return JsonResponse({"order_id": order_id, "status": status})


@csrf_exempt
def webhooks(request: HttpRequest) -> HttpResponse:
    try:
        entries = verify(request.headers, request.body, os.environ["WEBHOOK_SECRET"])
    except SignatureError:
        return HttpResponse(status=401)
    for entry in entries:
        # An entry may come again.
        if entry["id"] in told:
            continue
        told.add(entry["id"])
        if entry["type"] == "user_online":
            online.add(entry["user"])
        elif entry["type"] == "user_offline":
            online.discard(entry["user"])
    return HttpResponse(status=204)


def list_online(request: HttpRequest) -> JsonResponse:
    return JsonResponse(sorted(online), safe=False)


@csrf_exempt
def decide(request: HttpRequest) -> HttpResponse:
    """Greenroom asks whether a customer may join the room of an order, and for the answer to a call there."""
    try:
        ask = verify(request.headers, request.body, os.environ["HOOK_SECRET"])
    except SignatureError:
        return HttpResponse(status=401)
    order_id = ask["room"].removeprefix("order-")
    if customers.get(order_id) != ask["user_id"]:
        return JsonResponse({"allow": False, "reason": "not your order"})
    if ask["type"] == "join":
        return JsonResponse({"allow": True})
    if ask["call"]["method"] != "order_status":
        return JsonResponse({"allow": False, "reason": "no such method"})
    return JsonResponse({"allow": True, "data": statuses[order_id]})


urlpatterns = [
    path("token", token),
    path("", page),
    path("webhooks", webhooks),
    path("online", list_online),
    path("orders/<order_id>/status", update_order_status),
    path("hook", decide),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", *sys.argv[1:]])
