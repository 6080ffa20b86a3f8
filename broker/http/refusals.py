"""Notes which requests were refused, by route and status, for metrics and the log."""

from collections.abc import Callable

import attrs
from hypercorn.typing import HTTPScope, WebsocketScope
from quart import Response
from quart_trio import QuartTrio

from broker.errors import ErrorCode, RefusalReason
from broker.http.exchange import this_request
from broker.http.metrics import UNMATCHED, known_method
from broker.refusals import Refusals

PROXIED_PORT = 0
"""Stands for the port of a client behind a trusted proxy, which is not known."""


@attrs.frozen
class RequestRefusals:
    """Passes refused requests to `Refusals`, without their paths, which may hold anything."""

    refusals: Refusals

    def add_to(self, app: QuartTrio) -> None:
        """Note every refused request of `app`."""
        app.after_request(self._note_response)

    def note(
        self,
        scope: HTTPScope | WebsocketScope,
        route: str,
        status: int,
        why: RefusalReason | ErrorCode,
        **fields: str,
    ) -> None:
        """Note one refused request."""
        method = known_method(scope["method"]) if scope["type"] == "http" else "GET"
        self.refusals.note(why, address_of(scope), method=method, route=route, status=status, **fields)

    async def _note_response(self, response: Response) -> Response:
        request = this_request()
        why = request.why
        if why is None and 400 <= response.status_code < 500:
            why = RefusalReason.HTTP
        if why is not None:
            route = UNMATCHED if request.url_rule is None else request.url_rule.rule
            self.note(request.scope, route, response.status_code, why, **request.log_fields)
        return response


def part_notes(refusals: Refusals) -> Callable[[str], None]:
    """Return a function that notes a refused part of this request, such as a line of many, by its code.

    It may be called when there is no request at hand any more, as while the answer is streamed.
    """
    request = this_request()
    key_name = request.log_fields
    address, route = (
        address_of(request.scope),
        UNMATCHED if request.url_rule is None else request.url_rule.rule,
    )

    def note(code: str) -> None:
        refusals.note(ErrorCode(code), address, method="POST", route=route, **key_name)

    return note


def address_of(scope: HTTPScope | WebsocketScope) -> str | None:
    """Return the address that a request comes from; a proxy's, if it comes through one that is not trusted."""
    client = scope.get("client")
    return None if client is None else str(client[0])


def proxied_client(scope: HTTPScope | WebsocketScope) -> str | None:
    """Return the address of a client that a trusted proxy has named for this one request; None for any other."""
    client = scope.get("client")
    return None if client is None or client[1] != PROXIED_PORT else str(client[0])
