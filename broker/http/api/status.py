"""Health, readiness, metrics and the description of the API."""

from typing import Annotated

import attrs
import msgspec
import trio
from msgspec import Meta
from quart import Quart, Response
from quart_trio import QuartTrio

from broker.http.api.models import answer
from broker.http.api.operations import operation
from broker.http.bodies import read_query
from broker.http.nodes.questions import MetricsQuestion, NodeAnswers, pack_question
from broker.http.nodes.readiness import ALIVE, Health, Readiness, find_readiness
from broker.http.nodes.scrape import render_metrics
from broker.http.problems import Problem, ProblemError
from broker.http.services import HttpServices

SCRAPE_SECONDS = 3.0
"""How long the other workers may take to answer; Prometheus itself waits for 10 by default."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsQuery(msgspec.Struct, frozen=True):
    """The worker whose metrics are asked for."""

    worker: Annotated[
        Annotated[int, Meta(ge=0, le=1023)] | None,
        Meta(description="of one worker, from 0; not given: of all"),
    ] = None


@attrs.define(eq=False)
class LazyOpenApi:
    """/openapi.json of an application, made when it is asked for first."""

    _app: QuartTrio
    _lock: trio.Lock = attrs.Factory(trio.Lock)
    _made: bytes | None = None

    async def get(self) -> bytes:
        """Return the document; only a checkpoint once it is made."""
        async with self._lock:
            if self._made is None:
                # In a thread, as the rooms of this event loop go on.
                self._made = await trio.to_thread.run_sync(self._make)
        return self._made

    def _make(self) -> bytes:
        from broker.http.api.openapi import make_openapi  # noqa: PLC0415  # see there

        return make_openapi(self._app)


@attrs.frozen
class StatusRoutes:
    """Routes open to all, but for the metrics where they have a key, which the gate checks."""

    services: HttpServices
    document: LazyOpenApi

    def add_to(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/health", view_func=self.health, methods=["GET"])
        app.add_url_rule("/ready", view_func=self.ready, methods=["GET"])
        app.add_url_rule("/metrics", view_func=self.metrics, methods=["GET"])
        app.add_url_rule("/openapi.json", view_func=self.openapi, methods=["GET"])
        app.add_url_rule("/web/openapi.json", view_func=self.openapi_beside, methods=["GET"])

    @operation(response=Health, security=())
    async def health(self) -> Response:
        """Answer that the process is alive."""
        return answer(ALIVE)

    @operation(response=Readiness, security=(), other_statuses={503: Readiness})
    async def ready(self) -> Response:
        """Answer whether the server is ready to serve.

        It is not, with status 503, when its engine cannot be reached, it is stopping, or no client's token can be
        verified since the keys of no issuer have been fetched yet.
        """
        readiness = await find_readiness(self.services)
        return answer(readiness, readiness.http_status)

    @operation(query=MetricsQuery, response_media=METRICS_TYPE, security=())
    async def metrics(self) -> Response:
        """Give the metrics of all workers of this machine in Prometheus' text format.

        Each series has the labels `node` and `worker`. `greenroom_worker_up` is 0 for a worker that did not answer
        in time, whose series are left out. With `http.metrics_key` set, only to those who present it.
        """
        asked = read_query(MetricsQuery).worker
        node, siblings = self.services.node, self.services.siblings
        count = 1 if siblings is None else siblings.count
        workers = list(range(count)) if asked is None else [asked]
        if asked is not None and asked >= count and asked != node.worker:
            raise ProblemError(Problem.of(404, f"there is no worker {asked}: {count} in all, from 0"))
        packed: dict[int, bytes] = {}
        if siblings is not None:
            others = [worker for worker in workers if worker != node.worker]
            question = pack_question(MetricsQuestion())
            packed |= await siblings.ask(others, question, patience_seconds=SCRAPE_SECONDS)
        if node.worker in workers:
            packed[node.worker] = NodeAnswers(self.services).metrics()
        return Response(render_metrics(node.machine, workers, packed), content_type=METRICS_TYPE)

    @operation(response_media="application/json", security=())
    async def openapi(self) -> Response:
        """Give this document."""
        return Response(await self.document.get(), content_type="application/json")

    async def openapi_beside(self) -> Response:
        """Give it where `/openapi.json` is that of the program around us; not described, as it would be there twice."""
        return Response(await self.document.get(), content_type="application/json")
