"""/openapi.json, made by quart-schema from the routes and the structs that they encode."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec
from quart_schema import HttpSecurityScheme, Info, OpenAPIProvider, QuartSchema
from quart_trio import QuartTrio
from werkzeug.routing.converters import BaseConverter
from werkzeug.routing.rules import Rule

from broker.auth.api_keys import ADMIN, Need
from broker.http.problems import PROBLEM_TYPE, Problem
from broker.http.version import greenroom_version
from broker.model import MAX_ROOM_NAME_CHARACTERS

T = TypeVar("T", bound=Callable[..., Any])
Model = type[msgspec.Struct]

_OPERATION = "_greenroom_operation"
_REFERENCE = "#/components/schemas/{name}"
_API_KEY, _CLIENT_TOKEN = "apiKey", "clientToken"


@attrs.frozen
class Operation:
    """The description of a route."""

    response: Model | None
    query: Model | None
    headers: Model | None
    request: Model | None
    request_media: str
    response_media: str
    security: tuple[str, ...]
    need: Need | None
    """The scope that an API key needs; None for a route that is open to all."""
    other_statuses: Mapping[int, Model]


def operation(
    *,
    response: Model | None = None,
    query: Model | None = None,
    headers: Model | None = None,
    request: Model | None = None,
    request_media: str = "application/json",
    response_media: str = "application/json",
    security: tuple[str, ...] = (_API_KEY,),
    need: Need = ADMIN,
    other_statuses: Mapping[int, Model] | None = None,
) -> Callable[[T], T]:
    """Describe a route; its docstring is the rest of the description. A route without this is in no document.

    `need` is what an API key needs for it, where it needs an API key at all.
    """
    described = Operation(
        response,
        query,
        headers,
        request,
        request_media,
        response_media,
        security,
        need if _API_KEY in security else None,
        other_statuses or {},
    )

    def decorate(function: T) -> T:
        setattr(function, _OPERATION, described)
        return function

    return decorate


def query_of(function: Callable[..., Any]) -> Model | None:
    """Return the query parameters of a described route; None if it takes none."""
    described: Operation | None = getattr(function, _OPERATION, None)
    return None if described is None else described.query


def need_of(function: Callable[..., Any]) -> Need | None:
    """Return what an API key needs for a route; None if that is open to all."""
    described: Operation | None = getattr(function, _OPERATION, None)
    return None if described is None else described.need


def add_openapi(app: QuartTrio) -> Callable[[], bytes]:
    """Make quart-schema describe `app`; returns a function that gives the document, made at the first call.

    Quart-schema's own routes are left out: its pages load scripts of other origins.
    """
    extension = QuartSchema(
        app,
        openapi_path=None,
        info=Info(title="Greenroom", version=greenroom_version(), description="Real-time rooms over HTTP."),
        security_schemes={
            _API_KEY: HttpSecurityScheme(scheme="bearer"),
            _CLIENT_TOKEN: HttpSecurityScheme(scheme="bearer", bearer_format="JWT"),
        },
        conversion_preference="msgspec",
        openapi_provider_class=Provider,
    )
    made: list[bytes] = []

    def document() -> bytes:
        if not made:
            made.append(msgspec.json.encode(extension.openapi_provider.schema()))
        return made[0]

    return document


class Provider(OpenAPIProvider):
    """Describes our operations.

    Quart-schema 0.25 knows one media type for each direction, and leaves the components out that a msgspec struct
    refers to; so operations are built here, and rules, paths and parameters of paths there.
    """

    def generate_rules(self) -> list[Rule]:
        """Give the rules whose routes are described."""
        return [rule for rule in self._app.url_map.iter_rules() if self._operation(rule) is not None]

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the operation of a rule, by path and method, and the components that it refers to."""
        described = self._operation(rule)
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
            built["security"] = [{name: scopes if name == _API_KEY else []} for name in described.security]
        if described.request is not None:
            content = _content(described.request, described.request_media, components)
            built["requestBody"] = {"required": True, "content": content}
        path = re.sub(r"<(?:[^:>]*:)?([^>]+)>", r"{\1}", rule.rule)
        return {path: {method.lower(): built for method in self.generate_methods(rule)}}, components

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        """Return a parameter of a path: a room or a user."""
        parameter = super().build_path_parameter(name, converter)
        parameter["schema"] |= {"minLength": 1, "maxLength": MAX_ROOM_NAME_CHARACTERS}
        return parameter

    def _operation(self, rule: Rule) -> Operation | None:
        described: Operation | None = getattr(self._app.view_functions[rule.endpoint], _OPERATION, None)
        return described


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
    text = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {
        "200": {"description": "A text.", "content": {described.response_media: text}},
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
