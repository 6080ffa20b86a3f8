"""Lets pages of other origins call the API, if the configuration says so (the Fetch standard's CORS protocol).

Credentials in the sense of that standard (cookies) are never allowed: whoever calls presents a token or a key.
"""

import attrs
from quart import Response
from quart_trio import QuartTrio

from broker.http.exchange import this_request

METHODS = "GET, POST, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
RESPONSE_HEADERS = "Retry-After, WWW-Authenticate"
MAX_AGE_SECONDS = 7200  # the longest that Chromium keeps a preflight


@attrs.frozen
class Cors:
    """Answers preflights and marks responses, for paths below /api/."""

    origins: tuple[str, ...]

    def add_to(self, app: QuartTrio) -> None:
        """Put it in front of everything else in `app`, but do nothing if no origin is allowed."""
        if self.origins:
            app.before_request(self._answer_preflight)
            app.after_request(self._mark)

    def _allowed_origin(self) -> str | None:
        request = this_request()
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith("/api/"):
            return None
        if "*" in self.origins:
            return "*"
        return origin if origin in self.origins else None

    async def _answer_preflight(self) -> Response | None:
        request = this_request()
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or self._allowed_origin() is None:
            return None
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
        return Response(b"", 204, headers)

    async def _mark(self, response: Response) -> Response:
        allowed = self._allowed_origin()
        if allowed is not None:
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
        if "*" not in self.origins:
            # Caches must not give one origin's answer to another.
            response.headers.add("Vary", "Origin")
        return response
