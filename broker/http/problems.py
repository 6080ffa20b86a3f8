"""Every error of the HTTP side as a problem document (RFC 9457): never HTML, never a traceback."""

import math
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import attrs
import msgspec
from hypercorn.typing import ASGISendCallable
from msgspec import UNSET, UnsetType
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from actors import ActorError
from broker.errors import (
    CloseCode,
    Disconnect,
    EngineTrouble,
    EngineUnavailableError,
    ErrorCode,
    GreenroomError,
    NotPortable,
    Refused,
)
from broker.http.exchange import this_request
from broker.refusals import reason_of

PROBLEM_TYPE = "application/problem+json"

_STATUS_OF_REFUSAL = {
    ErrorCode.INVALID_JSON: 400,
    ErrorCode.INVALID_MESSAGE: 400,
    ErrorCode.UNKNOWN_TYPE: 400,
    ErrorCode.NOT_IN_ROOM: 404,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.TOO_MANY_ROOMS: 429,
    ErrorCode.ROOM_FULL: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.FAILED: 500,
}
_STATUS_OF_DISCONNECT = {CloseCode.UNAUTHORIZED: 401, CloseCode.FORBIDDEN: 403, CloseCode.TOO_MANY: 429}
"""All others are 503."""

_DETAILS = {
    400: "the request is malformed",
    404: "there is nothing at this path",
    405: "this path does not take this method; the Allow header names those it takes",
    408: "the request body took too long to arrive",
    500: "the server failed to answer; the failure is in its log",
}


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457). `type` is always about:blank, so `title` is the phrase of `status`."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    code: str | UnsetType = UNSET
    """A name that programs can rely on, the same as in an `error` message on a WebSocket."""
    retry_after_ms: int | UnsetType = UNSET

    @classmethod
    def of(
        cls,
        status: int,
        detail: str,
        *,
        code: str | UnsetType = UNSET,
        retry_after_ms: int | UnsetType = UNSET,
    ) -> "Problem":
        """Return a problem with the title that goes with its status."""
        return cls(HTTPStatus(status).phrase, status, detail, code=code, retry_after_ms=retry_after_ms)


@attrs.frozen
class ProblemError(GreenroomError):
    """Raised in a route to answer the request with a problem."""

    problem: Problem
    headers: tuple[tuple[str, str], ...] = ()


def encode_problem(problem: Problem) -> bytes:
    """Encode the document."""
    return msgspec.json.encode(problem)


FAILED = Problem.of(500, _DETAILS[500])
BODY_TOO_SLOW = Problem.of(408, _DETAILS[408])


def refused_problem(refused: Refused) -> Problem:
    """Return the problem for a refusal."""
    return Problem.of(
        422 if isinstance(refused, NotPortable) else _STATUS_OF_REFUSAL.get(refused.code, 400),
        refused.message,
        code=refused.code.value,
        retry_after_ms=UNSET if refused.retry_after_ms is None else refused.retry_after_ms,
    )


def refusal_of(error: Exception) -> Refused:
    """Return the refusal for a failing room or engine, where only a part of a request is refused."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, EngineUnavailableError):
        return error.as_refused()
    return EngineUnavailableError(str(error), trouble=EngineTrouble.ROOM_FAILED).as_refused()


def problem_of(error: Exception) -> tuple[Problem, ErrorCode]:
    """Return the answer to a request that failed in a room or in the engine, and its reason for log and metrics."""
    refused = refusal_of(error)
    return refused_problem(refused), refused.code


def problem_response(problem: Problem, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return the response for `problem`, with the headers that its status needs."""
    response = Response(encode_problem(problem), problem.status, content_type=PROBLEM_TYPE)
    response.headers.extend((*headers, *problem_fields(problem)))
    return response


def problem_fields(problem: Problem) -> list[tuple[str, str]]:
    """Return the headers that the status of a problem needs."""
    headers = []
    if problem.status == 401:
        # RFC 9110 section 11.6.1; RFC 6750 section 3.
        headers.append(("WWW-Authenticate", 'Bearer realm="greenroom"'))
    if problem.retry_after_ms is not UNSET:
        headers.append(("Retry-After", str(math.ceil(problem.retry_after_ms / 1000))))
    return headers


async def send_problem(
    send: ASGISendCallable, problem: Problem, headers: Iterable[tuple[str, str]] = (), *, prefix: str = ""
) -> None:
    """Answer with `problem` outside of Quart; `prefix` is "websocket." to refuse a WebSocket."""
    body = encode_problem(problem)
    fields = [
        ("Content-Type", PROBLEM_TYPE),
        ("Content-Length", str(len(body))),
        *headers,
        *problem_fields(problem),
    ]
    start: Any = {
        "type": f"{prefix}http.response.start",
        "status": problem.status,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields],
    }
    end: Any = {"type": f"{prefix}http.response.body", "body": body, "more_body": False}
    await send(start)
    await send(end)


def add_problem_handlers(app: QuartTrio) -> None:
    """Make `app` answer every error with a problem."""
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(Disconnect, _answer_disconnect)
    for failure in (Refused, EngineUnavailableError, ActorError):
        app.register_error_handler(failure, _answer_failure)
    app.register_error_handler(HTTPException, _answer_http_exception)


async def _answer_problem(error: ProblemError) -> Response:
    return problem_response(error.problem, error.headers)


async def _answer_failure(error: Exception) -> Response:
    problem, this_request().why = problem_of(error)
    return problem_response(problem)


async def _answer_disconnect(error: Disconnect) -> Response:
    this_request().why = reason_of(error)
    return problem_response(Problem.of(_STATUS_OF_DISCONNECT.get(error.code, 503), error.reason))


async def _answer_http_exception(error: HTTPException) -> Response:
    """Answer the errors of Quart and Werkzeug, whose own descriptions are meant for HTML pages."""
    status = error.code or 500
    phrase = HTTPStatus(status).phrase
    allow = tuple((name, value) for name, value in error.get_headers() if name == "Allow")
    return problem_response(Problem.of(status, _DETAILS.get(status, phrase.lower())), allow)
