"""The descriptions of routes, beside the routes: what they take and answer, and the scope that an API key needs."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec

from broker.auth.api_keys import ADMIN, Need

T = TypeVar("T", bound=Callable[..., Any])
Model = type[msgspec.Struct]

_OPERATION = "_greenroom_operation"
API_KEY, CLIENT_TOKEN = "apiKey", "clientToken"


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
    security: tuple[str, ...] = (API_KEY,),
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
        need if API_KEY in security else None,
        other_statuses or {},
    )

    def decorate(function: T) -> T:
        setattr(function, _OPERATION, described)
        return function

    return decorate


def operation_of(function: Callable[..., Any]) -> Operation | None:
    """Return the description of a route; None if it has none."""
    described: Operation | None = getattr(function, _OPERATION, None)
    return described


def query_of(function: Callable[..., Any]) -> Model | None:
    """Return the query parameters of a described route; None if it takes none."""
    described = operation_of(function)
    return None if described is None else described.query


def need_of(function: Callable[..., Any]) -> Need | None:
    """Return what an API key needs for a route; None if that is open to all."""
    described = operation_of(function)
    return None if described is None else described.need
