"""Our application and a program's own, on one port."""

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect


class SideBySide:
    """Gives the broker's own paths to `ours` and everything else, WebSockets too, to `theirs`.

    Own are the paths that `ours` has a route for, whatever the method; but not `/`, which a program that brings
    pages of its own wants for itself.
    """

    def __init__(self, ours: QuartTrio, theirs: ASGIFramework) -> None:
        self._ours = ours
        self._theirs = theirs

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request."""
        is_ours = scope["type"] == "http" and self.is_own_path(scope["path"])
        await (self._ours if is_ours else self._theirs)(scope, receive, send)

    def is_own_path(self, path: str) -> bool:
        """Tell whether a request for `path` is the broker's."""
        if path == "/":
            return False
        try:
            self._ours.url_map.bind("").match(path)
        except NotFound:
            return False
        except (HTTPException, RequestRedirect):
            return True
        return True
