"""The path of a request target, in one form for every decision.

The API's gate, the division between two applications and the routing must never differ about a path.
"""

from hypercorn.typing import Scope


def is_server_wide(scope: Scope) -> bool:
    """Whether a request asks for the options of the server itself: `OPTIONS *` (RFC 9110 section 9.3.7).

    An absolute URL without path and query is the same target (RFC 9112 sections 3.2.4 and 3.3).
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    path: str = scope["path"]
    is_bare_url = not path.startswith("/") and "/" not in path.partition("://")[2]
    return path == "*" or (is_bare_url and not scope["query_string"])


def routed_path(path: str) -> str:
    """Return the path that routing sees, given the decoded path of a request target.

    A target may be an absolute URL (RFC 9112 section 3.2.2), and Werkzeug takes any number of slashes at the
    beginning for one. Nothing else is made equal: case, dots and slashes within a path are part of it.
    """
    if not path.startswith("/"):
        scheme, is_absolute, rest = path.partition("://")
        path = rest.partition("/")[2] if is_absolute else scheme
    return "/" + path.lstrip("/")
