"""Our application and a program's own on one port."""

from typing import cast

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect

from broker.http.target import is_server_wide, routed_path

LEFT_TO_PROGRAM = frozenset({"/", "/openapi.json", "/asyncapi.json"})
"""Paths of ours that belong to a program's own application, where there is one."""


class SideBySide:
    """Gives the broker's own paths to `ours` and everything else, WebSockets too, to `theirs`.

    Own are the paths that `ours` has a route for, whatever the method and the kind of scope; but not those in
    LEFT_TO_PROGRAM, which a program may have of its own: ours are at `/web/console`, `/web/openapi.json` and
    `/web/asyncapi.json` as well. `OPTIONS *` is for `ours`, whose gate also refuses WebSockets.
    """

    def __init__(self, ours: QuartTrio, theirs: ASGIFramework) -> None:
        self._ours = ours
        self._theirs = theirs

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._theirs(scope, receive, send)
        elif is_server_wide(scope) or self.is_own_path(scope["path"]):
            await self._ours(scope, receive, send)
        elif scope["path"].startswith("/"):
            await self._theirs(scope, receive, send)
        else:
            # Applications expect a path, and not a URL.
            await self._theirs(cast("Scope", {**scope, "path": routed_path(scope["path"])}), receive, send)

    def is_own_path(self, path: str) -> bool:
        """Whether a request for the decoded path of a request target is the broker's."""
        path = routed_path(path)
        if path in LEFT_TO_PROGRAM:
            return False
        try:
            self._ours.url_map.bind("").match(path)
        except NotFound:
            return False
        except (HTTPException, RequestRedirect):
            return True
        return True
