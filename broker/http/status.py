"""How the server is: for load balancers, for Prometheus, and for programs that want to know the API."""

from collections.abc import Callable

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from quart import Quart, Response

from broker.http.answers import Health, Readiness, answer
from broker.http.openapi import operation
from broker.http.readiness import find_obstacles
from broker.http.services import HttpServices

READY_SECONDS = 2.0
"""How long the engine may take to say that it is ready."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class StatusRoutes:
    """Routes that anybody may ask, but for the metrics where they have a key, which the gate checks."""

    services: HttpServices
    http_metrics: CollectorRegistry
    make_document: Callable[[], bytes]

    def add_to(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/health", view_func=self.health, methods=["GET"])
        app.add_url_rule("/ready", view_func=self.ready, methods=["GET"])
        app.add_url_rule("/metrics", view_func=self.metrics, methods=["GET"])
        app.add_url_rule("/openapi.json", view_func=self.openapi, methods=["GET"])

    @operation(response=Health, security=())
    async def health(self) -> Response:
        """Tell that the process is alive."""
        return answer(Health("ok"))

    @operation(response=Readiness, security=(), other_statuses={503: Readiness})
    async def ready(self) -> Response:
        """Tell whether the server is ready to serve.

        It is not, with status 503, when its engine cannot be reached or it is stopping.
        """
        reasons = await find_obstacles(
            self.services.engine, is_draining=self.services.is_draining(), patience_seconds=READY_SECONDS
        )
        if reasons:
            return answer(Readiness("not ready", reasons), 503)
        return answer(Readiness("ready", []))

    @operation(response_media=METRICS_TYPE, security=())
    async def metrics(self) -> Response:
        """Give the metrics in Prometheus' text format; with `http.metrics_key` set, only to those who present it."""
        text = generate_latest(self.services.metrics) + generate_latest(self.http_metrics)
        return Response(text, content_type=METRICS_TYPE)

    @operation(response_media="application/json", security=())
    async def openapi(self) -> Response:
        """Give this document."""
        return Response(self.make_document(), content_type="application/json")
