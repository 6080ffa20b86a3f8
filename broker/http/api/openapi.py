"""/openapi.json, made by quart-schema from the routes and the structs that they encode.

Imported when somebody asks for it: quart-schema and pydantic, which it needs, take as long as all of trio, and 20 MiB.
"""

import copy
import re
from typing import Any

import msgspec
from quart_schema import HttpSecurityScheme, Info, OpenAPIProvider, QuartSchema
from quart_trio import QuartTrio
from werkzeug.routing.converters import BaseConverter
from werkzeug.routing.rules import Rule

from broker.http.api.batch import NDJSON_TYPE
from broker.http.api.operations import API_KEY, CLIENT_TOKEN, Model, Operation, operation_of
from broker.http.problems import PROBLEM_TYPE, Problem
from broker.http.version import greenroom_version
from broker.protocol.fields import RoomName

_REFERENCE = "#/components/schemas/{name}"


def make_openapi(app: QuartTrio) -> bytes:
    """Return the document of an application whose routes are complete; it may be serving."""
    # Of no application: its own routes are left out, as its pages load scripts of other origins.
    extension = QuartSchema(
        info=Info(title="Greenroom", version=greenroom_version(), description="Real-time rooms over HTTP."),
        security_schemes={
            API_KEY: HttpSecurityScheme(scheme="bearer"),
            CLIENT_TOKEN: HttpSecurityScheme(scheme="bearer", bearer_format="JWT"),
        },
    )
    return msgspec.json.encode(Provider(app, extension).schema())


class Provider(OpenAPIProvider):
    """Describes our operations.

    Quart-schema 0.25 knows one media type for each direction, and leaves the components out that a msgspec struct
    refers to; so operations are built here, and rules, paths and parameters of paths there.
    """

    def generate_rules(self) -> list[Rule]:
        """Give the rules whose routes are described."""
        return [rule for rule in self._app.url_map.iter_rules() if self._described(rule) is not None]

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the operation of a rule, by path and method, and the components that it refers to."""
        described = self._described(rule)
        assert described is not None, "generate_rules gives no others"
        function = self._app.view_functions[rule.endpoint]
        summary, _, description = (function.__doc__ or "").partition("\n")
        components: dict[str, Any] = {}
        built: dict[str, Any] = {
            "operationId": function.__name__,
            "summary": summary,
            "description": re.sub(r"\s+", " ", description).strip(),
            "parameters": [
                *[self.build_path_parameter(name, it) for name, it in rule._converters.items()],  # noqa: SLF001
                *_parameters(described.query, "query", components),
                *_parameters(described.headers, "header", components),
            ],
            "responses": _responses(described, components),
        }
        if described.security:
            # OpenAPI 3.1 has names of roles where a scheme has no scopes of OAuth.
            scopes = [] if described.need is None else [described.need.scope.value]
            built["security"] = [{name: scopes if name == API_KEY else []} for name in described.security]
        if described.request is not None:
            content = _content(described.request, described.request_media, components)
            # No line at all is a batch, too.
            is_required = described.request_media != NDJSON_TYPE
            built["requestBody"] = {"required": is_required, "content": content}
        path = re.sub(r"<(?:[^:>]*:)?([^>]+)>", r"{\1}", rule.rule)
        return {path: {method.lower(): built for method in self.generate_methods(rule)}}, components

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        """Return a parameter of a path: a room, or a user or a webhook, which need not exist."""
        parameter = super().build_path_parameter(name, converter)
        parameter["schema"] = _room_name() if name == "room" else {"type": "string", "minLength": 1}
        return parameter

    def _described(self, rule: Rule) -> Operation | None:
        return operation_of(self._app.view_functions[rule.endpoint])


def _room_name() -> dict[str, Any]:
    return msgspec.json.schema(RoomName)


def _schema(model: Model, components: dict[str, Any]) -> dict[str, Any]:
    (schema,), found = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    components.update(found)
    return schema


def _content(model: Model, media: str, components: dict[str, Any]) -> dict[str, Any]:
    return {media: {"schema": _schema(model, components)}}


def _parameters(model: Model | None, place: str, components: dict[str, Any]) -> list[dict[str, Any]]:
    if model is None:
        return []
    (_,), found = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    own = found.pop(model.__name__)
    components.update(found)
    parameters = []
    for name, schema in copy.deepcopy(own["properties"]).items():
        parameter = {"name": name, "in": place, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        parameters.append(parameter)
    return parameters


def _responses(described: Operation, components: dict[str, Any]) -> dict[str, Any]:
    is_json = described.response_media.endswith("json")
    untyped = {"schema": {"type": "object" if is_json else "string"}}
    responses: dict[str, Any] = {
        "200": {
            "description": "A JSON document." if is_json else "A text.",
            "content": {described.response_media: untyped},
        },
        "default": _response(Problem, PROBLEM_TYPE, components),
    }
    models = dict(described.other_statuses)
    if described.response is not None:
        models[200] = described.response
    for status, model in models.items():
        responses[str(status)] = _response(model, described.response_media, components)
    return responses


def _response(model: Model, media: str, components: dict[str, Any]) -> dict[str, Any]:
    description = (model.__doc__ or "").partition("\n")[0]
    return {"description": description, "content": _content(model, media, components)}
