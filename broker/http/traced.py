"""Requests that publish, as spans: those that Quart answers, and plain posts."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from broker.auth.api_keys import Caller
from broker.http.plain_post import BROADCAST, LINES, MESSAGES, Answer, Call, Part, PlainPost, PostAnswers
from broker.traces.tracer import Span, SpanKind, Tracer, spanning

FIRST_FAILURE = 500
"""Statuses from this one on are faults of the server, and failures of its spans."""


@contextmanager
def _request(tracer: Tracer, route: str, parent: str | None) -> Iterator[Span]:
    """Make a span for the block, which is the parent of what is published in it."""
    span = tracer.start(
        f"POST {route}",
        SpanKind.SERVER,
        parent=parent,
        attributes={"http.request.method": "POST", "http.route": route},
    )
    before = tracer.current.set(span.traceparent if span.is_sampled else None)
    try:
        with spanning(span):
            yield span
    finally:
        tracer.current.reset(before)


def _note_status(span: Span, status: int) -> None:
    span.note("http.response.status_code", status)
    if status >= FIRST_FAILURE:
        span.fail(f"status {status}")


@attrs.frozen
class TracedApp:
    """The application, with a span for each request that may publish."""

    app: ASGIFramework
    tracer: Tracer

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request."""
        route = _route_of(scope)
        if route is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [value for key, value in scope["headers"] if key == b"traceparent"]
        parent = headers[0].decode("latin-1") if len(headers) == 1 else None
        with _request(self.tracer, route, parent) as span:

            async def note_and_send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            await self.app(scope, receive, note_and_send)


def _route_of(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = scope["path"]
    if path in {BROADCAST, LINES}:
        return path
    prefix, suffix = MESSAGES.split("<room>")
    is_messages = path.startswith(prefix) and path.endswith(suffix) and len(path) > len(prefix + suffix)
    return MESSAGES if is_messages else None


@attrs.frozen
class TracedPosts:
    """See PostAnswers."""

    posts: PostAnswers
    tracer: Tracer

    def admit(self, post: PlainPost) -> Caller | None:
        """See PostAnswers."""
        return self.posts.admit(post)

    async def answer(self, call: Call, content: bytes) -> Answer:
        """See PostAnswers."""
        with _request(self.tracer, call.route, call.post.traceparent) as span:
            answer = await self.posts.answer(call, content)
            _note_status(span, _status_of(answer.head))
            return answer

    async def answer_lines(self, call: Call, content: bytes, send: Callable[[Part], Awaitable[None]]) -> bool:
        """See PostAnswers. One that the route answers has two spans, as the route is a request of its own."""
        with _request(self.tracer, call.route, call.post.traceparent) as span:
            is_answered = await self.posts.answer_lines(call, content, send)
            if is_answered:
                _note_status(span, 200)
            return is_answered

    def answer_too_slow(self, call: Call) -> Answer:
        """See PostAnswers."""
        return self.posts.answer_too_slow(call)


def _status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])
