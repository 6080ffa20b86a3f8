"""The console at `/` and its parts, from the package."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files

import attrs
from quart import Quart, Response

from broker.http.exchange import this_request
from broker.http.problems import Problem, ProblemError

# Nothing from elsewhere, nothing inline, and no text ever taken for HTML (trusted-types 'none'). `connect-src 'self'`
# lets the page open WebSockets to its own origin (Content Security Policy Level 3, section 6.7.2.8); Safari before
# 15.4 and Firefox before 97 did not have that yet.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

PAGE = "index.html"

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@attrs.frozen
class WebFile:
    """One file, in memory, with its entity tag (RFC 9110 section 8.8.3)."""

    content: bytes
    content_type: str
    etag: str


def load_web_files() -> Mapping[str, WebFile]:
    """Read the files of `broker/web/console`, by name."""
    loaded = {}
    for entry in (files("broker.web") / "console").iterdir():
        content_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if content_type is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            loaded[entry.name] = WebFile(content, f"{content_type}; charset=utf-8", etag)
    return loaded


@attrs.frozen
class PageRoutes:
    """Routes for browsers."""

    web_files: Mapping[str, WebFile]

    def add_to(self, app: Quart) -> None:
        """Add the routes. The console has a second address, for programs that bring a page of their own at `/`."""
        app.add_url_rule("/", view_func=self.page, methods=["GET"])
        app.add_url_rule("/web/console", view_func=self.page, methods=["GET"])
        app.add_url_rule("/web/console/<name>", view_func=self.part, methods=["GET"])
        app.add_url_rule("/ws", view_func=self.upgrade, methods=["GET"])
        app.add_url_rule("/ws/<path:room>", view_func=self.upgrade, methods=["GET"])

    async def page(self) -> Response:
        """Give the console."""
        return _response(self.web_files[PAGE])

    async def part(self, name: str) -> Response:
        """Give a part of the console."""
        if name not in self.web_files:
            raise ProblemError(Problem.of(404, "there is nothing at this path"))
        return _response(self.web_files[name])

    async def upgrade(self, room: str = "") -> Response:  # noqa: ARG002  # which room does not matter
        """Answer 426: this path is for WebSockets (RFC 9110 section 15.5.22)."""
        raise ProblemError(
            Problem.of(426, "this is a WebSocket's address: ask for an upgrade"),
            (("Upgrade", "websocket"), ("Connection", "Upgrade")),
        )


def _response(web_file: WebFile) -> Response:
    # Revalidated each time, so that a page never runs with the script of another version.
    headers = {"ETag": web_file.etag, "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY}
    if web_file.etag in this_request().headers.get("If-None-Match", ""):
        return Response(b"", 304, headers)
    return Response(web_file.content, headers=headers, content_type=web_file.content_type)
