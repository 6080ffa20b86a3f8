"""Calls of a server's HTTP API by commands, and the lines that say why one failed."""

from collections.abc import Mapping
from typing import TypeVar

import httpx2
import msgspec

from broker.client.reasons import why
from broker.errors import GreenroomError

T = TypeVar("T", bound=msgspec.Struct | msgspec.Raw)


class UnreachableError(GreenroomError):
    """The server gave no answer that can be used."""


class _Problem(msgspec.Struct, frozen=True):
    detail: str


def name_of(client: httpx2.Client) -> str:
    """Return host and port of the server of a client."""
    return client.base_url.netloc.decode()


def call_server(
    client: httpx2.Client,
    method: str,
    path: str,
    answer: type[T],
    *,
    params: Mapping[str, str] | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> T:
    """Call the API; `body` is sent as JSON, unless it is None.

    :raises UnreachableError: if the server does not answer, or refuses.
    """
    content = None if body is None else msgspec.json.encode(body)
    try:
        response = client.request(method, path, params=params, content=content, headers=headers)
    except httpx2.RequestError as error:
        what = "connect to" if isinstance(error, httpx2.ConnectError) else "ask"
        raise UnreachableError(f"cannot {what} {name_of(client)}: {why(error)}") from None
    if response.status_code != 200:
        raise UnreachableError(_refusal(response))
    try:
        return msgspec.json.decode(response.content, type=answer)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise UnreachableError(f"{client.base_url} is no Greenroom server") from None


def _refusal(response: httpx2.Response) -> str:
    try:
        detail = msgspec.json.decode(response.content, type=_Problem).detail
    except (msgspec.DecodeError, ValueError, RecursionError):
        return f"the server answered with status {response.status_code}"
    hint = "; put the server's into GREENROOM_API_KEY" if response.status_code == 401 else ""
    return f"the server answered with status {response.status_code}: {detail}{hint}"
