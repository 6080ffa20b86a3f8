"""Calls of the API by pages of configured other origins (the Fetch standard's CORS protocol).

Credentials in the sense of that standard (cookies) are allowed only for event streams, to pages that may use the cookie
of `auth.cookie`; all other callers present a token or a key.
"""

from collections.abc import Callable, Collection

import attrs
from quart import Response
from quart_trio import QuartTrio

from broker.config.settings import Settings
from broker.http.exchange import this_request

METHODS = "GET, POST, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
RESPONSE_HEADERS = "Retry-After, WWW-Authenticate"
MAX_AGE_SECONDS = 7200  # the longest that Chromium keeps a preflight


def cookie_origins(settings: Settings) -> Collection[str]:
    """Return the origins whose pages may use the cookie with a token; none if no cookie is configured."""
    return settings.websocket.allowed_origins if settings.auth.cookie is not None else ()


@attrs.frozen
class Cors:
    """Answers preflights and marks responses, for paths below /api/."""

    origins: tuple[str, ...]
    cookie_origins: Callable[[], Collection[str]] = tuple
    """Returns the origins whose pages may use a cookie."""

    def add_to(self, app: QuartTrio) -> None:
        """Put it in front of everything else in `app`, but do nothing if no origin is allowed."""
        if self.origins:
            app.before_request(self._answer_preflight)
            app.after_request(self._mark)

    def is_preflight(self, method: str, origin: str | None, requested_method: str | None, path: str) -> bool:
        """Whether a request is a preflight for a page of an allowed origin; browsers send no key with it."""
        is_preflight = method == "OPTIONS" and requested_method is not None
        return is_preflight and self._allowed_origin(origin, path) is not None

    def headers(self, origin: str | None, path: str) -> list[tuple[str, str]]:
        """Return the headers of an answer to a page of `origin`."""
        if not self.origins:
            return []
        allowed = self._allowed_origin(origin, path)
        # Caches must not give one origin's answer to another.
        headers = [] if "*" in self.origins else [("Vary", "Origin")]
        if allowed is not None:
            headers.append(("Access-Control-Allow-Origin", allowed))
            headers.append(("Access-Control-Expose-Headers", RESPONSE_HEADERS))
        if allowed == origin and origin in self.cookie_origins() and path.endswith("/events"):
            headers.append(("Access-Control-Allow-Credentials", "true"))
        return headers

    def _allowed_origin(self, origin: str | None, path: str) -> str | None:
        if origin is None or not path.startswith("/api/"):
            return None
        if "*" in self.origins:
            return "*"
        return origin if origin in self.origins else None

    async def _answer_preflight(self) -> Response | None:
        request = this_request()
        fields = request.headers
        requested_method = fields.get("Access-Control-Request-Method")
        if not self.is_preflight(request.method, fields.get("Origin"), requested_method, request.path):
            return None
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
        return Response(b"", 204, headers)

    async def _mark(self, response: Response) -> Response:
        request = this_request()
        for name, value in self.headers(request.headers.get("Origin"), request.path):
            response.headers.add(name, value)
        return response
