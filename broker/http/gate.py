"""The entrance to our application: no route below /api is reached without the key.

It guards every kind of ASGI scope. A hook of the framework would not: Quart runs other hooks for a WebSocket than
for a request, and then the same view.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPScope,
    Scope,
    WebsocketScope,
)
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from broker.auth.api_keys import ADMIN, READ, Caller, Need
from broker.auth.bearer import ApiKey
from broker.errors import RefusalReason, Refused
from broker.http.api.cors import Cors
from broker.http.exchange import CALLER, CLIENT_CERTIFICATE
from broker.http.key_uses import KeyUses
from broker.http.metrics import METHODS, UNMATCHED, HttpMetrics
from broker.http.problems import Problem, refused_problem, send_problem
from broker.http.refusals import RequestRefusals
from broker.http.target import is_server_wide, routed_path

API_PREFIX = "/api"
SERVER_WIDE = "*"
METRICS_PATH = "/metrics"

NO_CERTIFICATE = Problem.of(
    403, "the API is for clients with a certificate of an authority that the server names; see the reference"
)

NO_WEBSOCKET = Problem.of(400, "no WebSocket is spoken at this path; rooms have theirs at /ws and /ws/ROOM")


def is_api_path(path: str) -> bool:
    """Whether a path, as routing sees it, belongs to the API."""
    return path == API_PREFIX or path.startswith(API_PREFIX + "/")


def first_header(scope: HTTPScope | WebsocketScope, name: bytes) -> str | None:
    """Return the first header of a lower-case name."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


@attrs.frozen
class Gate:
    """Our application behind its check of keys.

    Every path below /api needs an API key, also one without a route, and a route needs a scope of it; but not `open_routes`, which check credentials
    themselves, nor CORS preflights, which no view answers. Where there is a key for metrics,
    they need that one or the API key. Where clients need certificates, all those calls below /api need one as well, before
    their key counts. WebSockets are refused: those of rooms never come here, and no view expects one.
    """

    app: ASGIFramework
    url_map: Map
    open_routes: frozenset[str]
    need_of: Callable[[Any], Need | None]
    """Returns what an API key needs for an endpoint."""
    key_uses: KeyUses
    metrics_key: ApiKey | None
    cors: Cors
    metrics: HttpMetrics
    refusals: RequestRefusals
    security_headers: Iterable[tuple[str, str]]
    needs_client_certificate: bool = attrs.field(default=False, kw_only=True)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request, or the application's lifespan."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http" and is_server_wide(scope):
            await self._send_options(scope, send)
            return
        path = routed_path(scope["path"])
        caller = self.identify(first_header(scope, b"authorization"))
        refusal = self._refuse_without_certificate(scope, path, caller)
        if refusal is not None:
            self._note(scope, path, refusal, RefusalReason.CLIENT_CERTIFICATE)
        elif (refusal := self._refuse_without_key(scope, path) if caller is None else None) is not None:
            has_key = first_header(scope, b"authorization") is not None
            why = RefusalReason.API_KEY_WRONG if has_key else RefusalReason.API_KEY_MISSING
            self._note(scope, path, refusal, why)
        elif caller is not None and scope["type"] == "http":
            refusal = self._refuse_without_scope(scope, path, caller)
        if scope["type"] == "http":
            if refusal is None:
                passed: Any = {**scope, "path": path, CALLER: caller}
                await self.app(passed, receive, send)
            else:
                await self._answer(scope, path, refusal, send)
        else:
            # Received, or the server's queue for us stays full.
            await receive()
            if refusal is None:
                refusal = NO_WEBSOCKET
                self._note(scope, path, refusal, RefusalReason.HTTP)
            await send_problem(send, refusal, prefix="websocket.")

    def identify(self, authorization: str | None) -> Caller | None:
        """Return who presents an API key in an Authorization header."""
        return self.key_uses.identify(authorization)

    def _refuse_without_certificate(
        self, scope: HTTPScope | WebsocketScope, path: str, caller: Caller | None
    ) -> Problem | None:
        """Refuse a call below /api; who opens an event stream with a token, as pages do, needs none."""
        is_checked = self.needs_client_certificate and is_api_path(path)
        if not is_checked or CLIENT_CERTIFICATE in scope or (caller is None and self._is_open(scope, path)):
            return None
        return NO_CERTIFICATE

    def _is_open(self, scope: HTTPScope | WebsocketScope, path: str) -> bool:
        """Whether a call below /api needs no API key."""
        return scope["type"] == "http" and (
            self._is_preflight(scope, path) or self._find_route(path, scope["method"]) in self.open_routes
        )

    def _refuse_without_key(self, scope: HTTPScope | WebsocketScope, path: str) -> Problem | None:
        authorization = first_header(scope, b"authorization")
        if (
            path == METRICS_PATH
            and self.metrics_key is not None
            and not self.metrics_key.matches(authorization)
        ):
            return Problem.of(401, "the key for metrics is missing or wrong: Authorization: Bearer KEY")
        if not is_api_path(path) or self._is_open(scope, path):
            return None
        what = "missing: Authorization: Bearer KEY" if authorization is None else "wrong"
        return Problem.of(401, f"the API key is {what}")

    def _refuse_without_scope(self, scope: HTTPScope, path: str, caller: Caller) -> Problem | None:
        rule, arguments = self._match(path, scope["method"])
        # OPTIONS only tells the methods.
        if rule is None or scope["method"] == "OPTIONS":
            return None
        is_guarded = path == METRICS_PATH and self.metrics_key is not None
        need = READ if is_guarded else self.need_of(rule.endpoint)
        if need is None:
            return None
        try:
            need.check(caller, arguments.get("room"))
        except Refused as refused:
            problem = refused_problem(refused)
            why = RefusalReason.API_KEY_SCOPE
            self.refusals.note(scope, rule.rule, problem.status, why, **caller.log_fields)
            return problem
        if need == ADMIN and caller.log_fields:
            log = self.key_uses.log
            log.info("admin call", method=scope["method"], route=rule.rule, **caller.log_fields)
        return None

    def _is_preflight(self, scope: HTTPScope, path: str) -> bool:
        requested = first_header(scope, b"access-control-request-method")
        return self.cors.is_preflight(scope["method"], first_header(scope, b"origin"), requested, path)

    def _note(
        self, scope: HTTPScope | WebsocketScope, path: str, problem: Problem, why: RefusalReason
    ) -> None:
        method = scope["method"] if scope["type"] == "http" else "GET"
        self.refusals.note(scope, self._find_route(path, method), problem.status, why)

    def _find_route(self, path: str, method: str) -> str:
        rule, _ = self._match(path, method)
        return UNMATCHED if rule is None else rule.rule

    def _match(self, path: str, method: str) -> tuple[Rule | None, Mapping[str, Any]]:
        try:
            rule, arguments = self.url_map.bind("").match(path, method, return_rule=True)
        except HTTPException:
            return None, {}
        return rule, arguments

    async def _send_options(self, scope: HTTPScope, send: ASGISendCallable) -> None:
        """Answer `OPTIONS *` with the methods that the server knows, whatever a resource allows."""
        headers = {"Allow": ", ".join(sorted(METHODS)), **dict(self.security_headers)}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 204, "headers": raw, "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.metrics.count(scope["method"], SERVER_WIDE, 204, 0.0)

    async def _answer(self, scope: HTTPScope, path: str, problem: Problem, send: ASGISendCallable) -> None:
        began_at = trio.current_time()
        cors_headers = self.cors.headers(first_header(scope, b"origin"), path)
        await send_problem(send, problem, [*self.security_headers, *cors_headers])
        route = self._find_route(path, scope["method"])
        self.metrics.count(scope["method"], route, problem.status, trio.current_time() - began_at)
