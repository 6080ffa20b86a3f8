"""The documents of the WebSocket protocol: `/asyncapi.json` and its JSON Schema."""

from collections.abc import Mapping

import attrs
from quart import Quart, Response

from broker.http.api.operations import operation
from broker.protocol.messages import PROTOCOL_NAME

SCHEMA = f"{PROTOCOL_NAME}.json"
ASYNCAPI = "asyncapi.json"


@attrs.define
class ProtocolRoutes:
    """Routes open to all. The documents are generated at the first request for one of them."""

    _files: Mapping[str, bytes] | None = attrs.field(default=None, init=False)

    def add_to(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule(f"/schema/{SCHEMA}", view_func=self.json_schema, methods=["GET"])
        app.add_url_rule(f"/{ASYNCAPI}", view_func=self.asyncapi, methods=["GET"])
        app.add_url_rule(f"/web/{ASYNCAPI}", view_func=self.asyncapi_beside, methods=["GET"])

    @operation(response_media="application/schema+json", security=())
    async def json_schema(self) -> Response:
        """Give the JSON Schema of all messages of the WebSocket protocol."""
        return Response(self._file(SCHEMA), content_type="application/schema+json")

    @operation(response_media="application/json", security=())
    async def asyncapi(self) -> Response:
        """Give the AsyncAPI document of the WebSocket protocol and of event streams."""
        return Response(self._file(ASYNCAPI), content_type="application/json")

    async def asyncapi_beside(self) -> Response:
        """Give it where `/asyncapi.json` is that of the program around us; not described, as it would be there twice."""
        return Response(self._file(ASYNCAPI), content_type="application/json")

    def _file(self, name: str) -> bytes:
        if self._files is None:
            from broker.protocol.documents.files import make_files  # noqa: PLC0415  # few servers are asked for it

            self._files = make_files()
        return self._files[name]
