"""The client for browsers, `/greenroom.js`, and its types, for pages of any origin."""

import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files

import attrs
from quart import Quart, Response

from broker.http.console.page import WebFile
from broker.http.exchange import this_request

MODULE = "greenroom.js"
TYPES = "greenroom.d.ts"

# The second is not registered, but tools that load types over HTTP expect it.
_CONTENT_TYPES = {MODULE: "text/javascript", TYPES: "application/typescript"}


def load_client_files() -> Mapping[str, WebFile]:
    """Read the built client and its types from the package, by name."""
    loaded = {}
    for name, content_type in _CONTENT_TYPES.items():
        content = (files("broker.web") / name).read_bytes()
        # A weak one, as it is the same for both encodings (RFC 9110 section 8.8.1).
        etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        loaded[name] = WebFile(content, f"{content_type}; charset=utf-8", etag)
    return loaded


@attrs.frozen
class BrowserClientRoutes:
    """Routes for the built client. It holds no secret, so any page may import it (the Fetch standard's CORS)."""

    client_files: Mapping[str, WebFile]
    _gzipped: Mapping[str, bytes] = attrs.field(init=False)

    @_gzipped.default
    def _gzip_all(self) -> Mapping[str, bytes]:
        return {name: gzip.compress(web_file.content) for name, web_file in self.client_files.items()}

    def add_to(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule(f"/{MODULE}", view_func=self.module, methods=["GET"])
        app.add_url_rule(f"/{TYPES}", view_func=self.types, methods=["GET"])

    async def module(self) -> Response:
        """Give the module. TypeScript's and Deno's loaders find its types by the header."""
        response = self._response(MODULE)
        response.headers["X-TypeScript-Types"] = f"/{TYPES}"
        return response

    async def types(self) -> Response:
        """Give the types of the module."""
        return self._response(TYPES)

    def _response(self, name: str) -> Response:
        client_file = self.client_files[name]
        request = this_request()
        headers = {
            "ETag": client_file.etag,
            "Vary": "Accept-Encoding",
            # Revalidated each time: after an update the new client is used at once.
            "Cache-Control": "no-cache",
            "Access-Control-Allow-Origin": "*",
            # For pages that demand it of all they embed (Cross-Origin-Embedder-Policy: require-corp).
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if client_file.etag in request.headers.get("If-None-Match", ""):
            return Response(b"", 304, headers)
        content = client_file.content
        if request.accept_encodings.quality("gzip") > 0:
            headers["Content-Encoding"] = "gzip"
            content = self._gzipped[name]
        return Response(content, headers=headers, content_type=client_file.content_type)
