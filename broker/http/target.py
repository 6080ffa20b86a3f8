"""The path that a request asks for, in one form for everybody who decides by it.

The gate of the API, the division between two applications and the routing must never differ about a path.
"""


def routed_path(path: str) -> str:
    """Return the path that routing sees, given the decoded path of a request target.

    A target may be an absolute URL (RFC 9112 section 3.2.2), and Werkzeug takes any number of slashes at the
    beginning for one. Nothing else is made equal: case, dots and slashes within a path are part of it.
    """
    if not path.startswith("/"):
        scheme, is_absolute, rest = path.partition("://")
        path = rest.partition("/")[2] if is_absolute else scheme
    return "/" + path.lstrip("/")
