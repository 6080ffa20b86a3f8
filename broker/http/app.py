"""The Quart-trio application: its routes, and the hooks of every request."""

from functools import partial
from random import Random, SystemRandom
from typing import Any
from urllib.parse import unquote_to_bytes

import trio
from quart import Blueprint, Response
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.routing import MapAdapter

from broker.http.api.access import Access
from broker.http.api.batch import BatchRoutes
from broker.http.api.cors import Cors, cookie_origins
from broker.http.api.dev_tokens import DevRoutes
from broker.http.api.events import EVENTS_ROUTE, HEARTBEAT_SECONDS, EventRoutes
from broker.http.api.explain import ExplainRoutes
from broker.http.api.operations import need_of, query_of
from broker.http.api.plain_posts import PlainPosts
from broker.http.api.protocol_documents import ProtocolRoutes
from broker.http.api.publishing import RoomPublisher
from broker.http.api.revocations import RevocationRoutes
from broker.http.api.rooms import RoomRoutes
from broker.http.api.status import LazyOpenApi, StatusRoutes
from broker.http.api.users import UserRoutes
from broker.http.api.webhooks import WebhookRoutes
from broker.http.bodies import check_parameters
from broker.http.console.browser_client import BrowserClientRoutes, load_client_files
from broker.http.console.page import PageRoutes, load_web_files
from broker.http.console.routes import NodeRoutes
from broker.http.exchange import Exchange, PacedRequest, this_request
from broker.http.gate import API_PREFIX, Gate
from broker.http.key_uses import KeyUses
from broker.http.metrics import UNMATCHED, HttpMetrics
from broker.http.plain_post import PostAnswers
from broker.http.probes import SECURITY_HEADERS
from broker.http.problems import Problem, ProblemError, add_problem_handlers
from broker.http.refusals import RequestRefusals, address_of
from broker.http.services import HttpServices
from broker.http.traced import TracedApp, TracedPosts
from broker.refusals import Refusals


class GreenroomApp(QuartTrio):
    """Quart-trio with bodies that are received as they are read, and failures in our log."""

    plain_posts: PostAnswers
    """Answers plain posts in place of the routes."""

    asgi_http_class = Exchange
    request_class = PacedRequest

    def __init__(self, refusals: Refusals) -> None:
        super().__init__("broker.http", static_folder=None, template_folder=None)
        self._refusals = refusals
        # A room's name is one segment of a path, and is not normalised.
        self.url_map.merge_slashes = False

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Match by the path alone: the Host header decides nothing here."""
        if request is None:
            return super().create_url_adapter(None)
        return self.url_map.bind("", path_info=request.path, default_method=request.method)

    def log_exception(self, *details: Any) -> None:
        """Log the exception that a route raised, with the route: a path holds the names of rooms.

        Quart 0.22 passes the exception's triple, 0.23 its context before that.
        """
        request = this_request()
        route = None if request.url_rule is None else request.url_rule.rule
        self._refusals.log_failure("request failed", address_of(request.scope), details[-1][1], route=route)


def create_app(
    services: HttpServices,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    random: Random | None = None,
) -> GreenroomApp:
    """Return the application for one broker. It holds no state of its own but its metrics."""
    settings = services.settings.http
    publisher = RoomPublisher(services.rooms, settings.request_seconds)
    app = GreenroomApp(services.refusals)
    app.config["RESPONSE_TIMEOUT"] = settings.request_seconds
    add_problem_handlers(app)
    app.before_request(check_path)
    app.before_request(partial(check_query, app))
    cors = Cors(settings.cors_origins, lambda: cookie_origins(services.settings))
    cors.add_to(app)
    app.after_request(partial(count_request, services.requests))
    refusals = RequestRefusals(services.refusals)
    refusals.add_to(app)
    app.after_request(add_security_headers)

    api = Blueprint("api", __name__, url_prefix=API_PREFIX)
    RoomRoutes(services, publisher).add_to(api)
    UserRoutes(services).add_to(api)
    RevocationRoutes(services).add_to(api)
    WebhookRoutes(services).add_to(api)
    BatchRoutes(services).add_to(api)
    NodeRoutes(services).add_to(api)
    ExplainRoutes(services).add_to(api)
    if services.makes_tokens:
        DevRoutes(services).add_to(api)
    app.register_blueprint(api)
    # Spreads reconnects, keeps no secret.
    EventRoutes(services, Access(services), heartbeat_seconds, random or SystemRandom()).add_to(app)
    PageRoutes(load_web_files()).add_to(app)
    BrowserClientRoutes(load_client_files()).add_to(app)
    ProtocolRoutes().add_to(app)
    StatusRoutes(services, LazyOpenApi(app)).add_to(app)
    open_routes = frozenset({EVENTS_ROUTE})
    gate = Gate(
        app.asgi_app,
        app.url_map,
        open_routes,
        lambda endpoint: need_of(app.view_functions[endpoint]),
        KeyUses(services.api_keys, services.log),
        services.metrics_key,
        cors,
        services.requests,
        refusals,
        SECURITY_HEADERS,
        needs_client_certificate=services.settings.server.tls_client_ca_file is not None,
    )
    app.plain_posts = PlainPosts(services, publisher, gate, cors, SECURITY_HEADERS)
    app.asgi_app = gate  # type: ignore[method-assign]  # as Quart's documentation says
    if services.tracer is not None:
        app.plain_posts = TracedPosts(app.plain_posts, services.tracer)
        app.asgi_app = TracedApp(gate, services.tracer)  # type: ignore[method-assign]
    return app


async def check_path() -> None:
    """Refuse a path that is not percent-encoded UTF-8, as its decoding is ambiguous.

    :raises ProblemError: 400.
    """
    raw_path = this_request().scope.get("raw_path")
    try:
        unquote_to_bytes(raw_path or b"").decode()
    except UnicodeDecodeError:
        raise ProblemError(Problem.of(400, "path: percent-encoded UTF-8")) from None


async def check_query(app: QuartTrio) -> None:
    """Refuse query parameters that a route of the API does not have; that of event streams checks credentials first.

    :raises Refused: see `check_parameters`.
    """
    request = this_request()
    rule = request.url_rule
    is_api = rule is not None and rule.rule.startswith(API_PREFIX + "/")
    if rule is not None and is_api and rule.rule != EVENTS_ROUTE and request.method != "OPTIONS":
        check_parameters(query_of(app.view_functions[rule.endpoint]))


async def count_request(metrics: HttpMetrics, response: Response) -> Response:
    """Count a request that is answered."""
    request = this_request()
    route = UNMATCHED if request.url_rule is None else request.url_rule.rule
    metrics.count(request.method, route, response.status_code, trio.current_time() - request.began_at)
    return response


async def add_security_headers(response: Response) -> Response:
    """Add SECURITY_HEADERS."""
    for name, value in SECURITY_HEADERS:
        response.headers.setdefault(name, value)
    return response
