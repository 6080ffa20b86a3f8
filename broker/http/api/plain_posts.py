"""Answers plain posts of messages: as the routes do, by the same functions, without Quart.

A post whose head the gate or a route would refuse is left to them: nothing has been done for it yet. So are more lines
than a batch looks ahead.
"""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import msgspec
import trio

from broker.auth.api_keys import PUBLISH, PUBLISH_IN_EACH, Caller
from broker.errors import ErrorCode, RefusalReason, Refused
from broker.http.api.batch import LOOK_AHEAD_LINES, NDJSON_TYPE, Batch, encode_results
from broker.http.api.cors import Cors
from broker.http.api.models import Broadcast, BroadcastResults
from broker.http.api.publishing import FAILURES, RoomPublisher, make_draft, make_key, traced
from broker.http.bodies import check_utf8, decode_json
from broker.http.gate import Gate
from broker.http.plain_post import LINES, Answer, Call, Part, PlainPost
from broker.http.problems import (
    BODY_TOO_SLOW,
    FAILED,
    PROBLEM_TYPE,
    Problem,
    encode_problem,
    problem_fields,
    problem_of,
)
from broker.http.services import HttpServices
from broker.model import Draft, check_room_name

_PATH = "/api/"
"""All that CORS asks of a path is that it begins so."""


@attrs.frozen
class PlainPosts:
    """See PostAnswers. The API key is checked by the gate."""

    services: HttpServices
    publisher: RoomPublisher
    gate: Gate
    cors: Cors
    security_headers: Sequence[tuple[str, str]]

    def admit(self, post: PlainPost) -> Caller | None:
        """See PostAnswers."""
        if post.content_bytes > self.services.settings.http.body_bytes:
            return None
        caller = self.gate.identify(post.authorization)
        if caller is None:
            return None
        try:
            (PUBLISH_IN_EACH if post.room is None else PUBLISH).check(caller, post.room)
            if post.route != LINES:
                # Lines have ids instead.
                make_key(post.key)
            if post.room is not None:
                check_room_name(post.room)
        except Refused:
            return None
        return caller

    async def answer(self, call: Call, content: bytes) -> Answer:
        """See PostAnswers. Only a checkpoint if a room cannot store the message at once."""
        try:
            rooms, message = _parse(call.post, check_utf8(content))
            is_ephemeral, tags, excluded = call.post.options
            key = make_key(call.post.key)
            draft = make_draft(message, key, is_ephemeral=is_ephemeral, tags=tags, excluded=excluded)
            if self.services.tracer is not None:
                draft = traced(draft, self.services.tracer)
            result = await self._publish(call, rooms, draft)
        except FAILURES as error:
            return self._refuse(call, *problem_of(error))
        except Exception as error:  # noqa: BLE001  # as Quart does
            self.services.refusals.log_failure("request failed", call.address, error, route=call.route)
            return self._refuse(call, FAILED, None)
        return self._answer(call, 200, "application/json", msgspec.json.encode(result))

    async def _publish(self, call: Call, rooms: Sequence[str], draft: Draft) -> msgspec.Struct:
        if call.post.room is not None:
            return await self.publisher.publish(call.post.room, draft)
        results = await self.publisher.publish_everywhere(rooms, draft, call.caller, self._part_notes(call))
        return BroadcastResults(results)

    async def answer_lines(self, call: Call, content: bytes, send: Callable[[Part], Awaitable[None]]) -> bool:
        """See PostAnswers. One part, if all results are there at once."""
        if content.count(b"\n") >= LOOK_AHEAD_LINES or self.services.is_draining():
            return False
        batch = Batch(self.services, call.caller, self._part_notes(call))
        try:
            batch.add_all(content)
            head = self._head(call, 200, NDJSON_TYPE)
            results = batch.ready_results()
            await send(Part(encode_results(results), not batch.is_waited_for, head))
            if batch.is_waited_for:
                await self._send_rest(batch, send)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except* Exception as failures:  # noqa: BLE001  # as Quart does
            self.services.refusals.log_failure(
                "request failed", call.address, failures, method="POST", path=LINES
            )
            raise trio.BrokenResourceError("an answer that has begun cannot be completed") from None
        finally:
            batch.close()
        return True

    async def _send_rest(self, batch: Batch, send: Callable[[Part], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            batch.run_in(nursery)
            while results := await batch.wait_results():
                await send(Part(encode_results(results), is_last=False))
            await send(Part(b"", is_last=True))

    def _part_notes(self, call: Call) -> Callable[[str], None]:
        """Return a function that notes a refused part of a request, by its code."""

        def note(code: str) -> None:
            self.services.refusals.note(
                ErrorCode(code), call.address, method="POST", route=call.route, **call.caller.log_fields
            )

        return note

    def answer_too_slow(self, call: Call) -> Answer:
        """See PostAnswers."""
        return self._refuse(call, BODY_TOO_SLOW, RefusalReason.HTTP)

    def _refuse(self, call: Call, problem: Problem, why: ErrorCode | RefusalReason | None) -> Answer:
        answer = self._answer(
            call, problem.status, PROBLEM_TYPE, encode_problem(problem), problem_fields(problem)
        )
        if why is not None:
            self.services.refusals.note(
                why,
                call.address,
                method="POST",
                route=call.route,
                status=problem.status,
                **call.caller.log_fields,
            )
        return answer

    def _answer(
        self,
        call: Call,
        status: int,
        content_type: str,
        content: bytes,
        fields: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        fields = (("content-length", str(len(content))), *fields)
        return Answer(self._head(call, status, content_type, fields), content)

    def _head(
        self, call: Call, status: int, content_type: str, fields: Sequence[tuple[str, str]] = ()
    ) -> bytes:
        """Return the head of an answer, which is counted."""
        cors = self.cors.headers(call.post.origin, _PATH)
        more = "".join(
            f"{name.lower()}: {value}\r\n" for name, value in (*fields, *self.security_headers, *cors)
        )
        self.services.requests.count("POST", call.route, status, trio.current_time() - call.began_at)
        return f"HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\n{more}".encode("latin-1")


def _parse(post: PlainPost, content: bytes) -> tuple[Sequence[str], bytes | msgspec.Raw]:
    """Return the rooms of a broadcast, and the message.

    :raises Refused: if the content of a broadcast is not one.
    """
    if post.room is not None:
        return (), content
    ask = decode_json(content, Broadcast)
    return ask.rooms, ask.message
