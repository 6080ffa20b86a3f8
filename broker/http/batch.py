"""Any number of publishes in one request, answered while the request still comes in."""

from contextlib import suppress

import attrs
import msgspec
import trio
from msgspec import UNSET, UnsetType
from quart import Blueprint, Response
from quart.wrappers.response import ResponseBody

from actors import Reply
from broker.errors import ErrorCode, Refused
from broker.http.answers import BatchLine, BatchResult, Placed
from broker.http.bodies import NDJSON_TYPES, check_content_type, check_utf8, decode_json
from broker.http.exchange import PacedBody, this_request
from broker.http.lines import Line, LineSplitter
from broker.http.openapi import operation
from broker.http.publishing import FAILURES, answer_within, error_info, make_key
from broker.http.services import HttpServices
from broker.model import Draft, check_room_name
from broker.notices import RequestId
from broker.protocol.content import notifier_content
from broker.rooms.messages import Publish, Published

LOOK_AHEAD_LINES = 128
"""How many lines may wait for their results to be written; each holds at most `http.body_bytes`."""

NDJSON_TYPE = "application/x-ndjson"

_lines = msgspec.json.Encoder()


@attrs.frozen
class BatchRoutes:
    """The route for batches."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the route to a blueprint below /api."""
        api.add_url_rule("/messages", view_func=self.publish_lines, methods=["POST"])

    @operation(request=BatchLine, response=BatchResult, request_media=NDJSON_TYPE, response_media=NDJSON_TYPE)
    async def publish_lines(self) -> Response:
        """Publish lines, each for a room of its own, and stream a result for each in the same order.

        Results come while the request is still being sent, and must be read meanwhile: the server stops reading
        when too many wait to be read. A bad line fails alone. `id` is the line's idempotency key. The lines of one
        room keep their order. The request may be of any length; when nothing comes for http.request_seconds,
        or the server is stopping, it is answered up to there and ended.
        """
        check_content_type(NDJSON_TYPES)
        request = this_request()
        batch = Batch(self.services, request.nursery)
        request.nursery.start_soon(batch.read, request.body)
        response = Response(BatchBody(batch), content_type=NDJSON_TYPE)
        response.timeout = None
        return response


@attrs.frozen
class _Ask:
    """What a good line asks for."""

    room: str
    draft: Draft


@attrs.define(eq=False)
class _Slot:
    """One line on its way: `result` is there when `done` is set."""

    number: int
    id: RequestId = None
    room: str | UnsetType = UNSET
    accepted: trio.Event = attrs.Factory(trio.Event)  # the room has it, or never will
    done: trio.Event = attrs.Factory(trio.Event)
    result: BatchResult | None = None

    async def wait(self) -> BatchResult:
        await self.done.wait()
        assert self.result is not None, "done is set with it"
        return self.result

    def succeed(self, placed: Placed) -> None:
        self.result = BatchResult(line=self.number, id=self.id, **msgspec.structs.asdict(placed))
        self.done.set()

    def fail(self, error: Exception) -> None:
        self.result = BatchResult(line=self.number, id=self.id, room=self.room, error=error_info(error))
        self.done.set()


class Batch:
    """Publishes the lines of one request."""

    def __init__(self, services: HttpServices, nursery: trio.Nursery) -> None:
        self._services = services
        self._nursery = nursery
        self._settings = services.settings.http
        self._sender, self._slots = trio.open_memory_channel[_Slot](LOOK_AHEAD_LINES)
        # The last line of each room that has lines on their way.
        self._last: dict[str, _Slot] = {}
        self._next: _Slot | None = None

    async def read(self, body: PacedBody) -> None:
        """Take lines from the body to its end; waits while too many results are unread."""
        splitter = LineSplitter(self._settings.body_bytes)
        with self._sender:
            while (chunk := await self._next_chunk(body)) is not None:
                for line in splitter.feed(chunk):
                    await self._take(line)
            for line in splitter.finish():
                await self._take(line)

    async def _next_chunk(self, body: PacedBody) -> bytes | None:
        if self._services.is_draining():
            return None
        with trio.move_on_after(self._settings.request_seconds):
            return await anext(body, None)
        return None

    async def _take(self, line: Line) -> None:
        slot = _Slot(line.number)
        ask: _Ask | None = None
        try:
            ask = self._parse(line, slot)
        except Refused as refused:
            slot.fail(refused)
        # Waits for room first: what is published is going to be answered.
        await self._sender.send(slot)
        if ask is not None:
            before = self._last.get(ask.room)
            self._last[ask.room] = slot
            self._nursery.start_soon(self._publish, slot, ask, before)

    def _parse(self, line: Line, slot: _Slot) -> _Ask:
        """Read a line; `slot` learns as much as its result will name, also if the rest is wrong."""
        if line.text is None:
            limit = self._settings.body_bytes
            raise Refused(ErrorCode.INVALID_MESSAGE, f"a line has at most {limit} bytes (http.body_bytes)")
        fields = decode_json(check_utf8(line.text), BatchLine)
        slot.id = fields.id
        slot.room = fields.room
        key = None if fields.id is None else str(fields.id)
        draft = Draft(notifier_content(fields.message), key=make_key(key, "id"))
        return _Ask(check_room_name(fields.room), draft)

    async def _publish(self, slot: _Slot, ask: _Ask, before: _Slot | None) -> None:
        try:
            if before is not None:
                await before.accepted.wait()
            with answer_within(self._settings.request_seconds):
                published = await self._say(slot, ask)
            slot.succeed(Placed.of(ask.room, published))
        except FAILURES as error:
            slot.fail(error)
        finally:
            slot.accepted.set()
            if self._last.get(ask.room) is slot:
                del self._last[ask.room]

    async def _say(self, slot: _Slot, ask: _Ask) -> Published:
        reply: Reply[Published] = Reply()
        ref = await self._services.rooms.tell(ask.room, Publish(ask.draft, reply=reply))
        slot.accepted.set()
        return await ref.wait_reply(reply)

    async def wait_results(self) -> list[BatchResult]:
        """Wait for the next result, and take along those behind it that are there too; empty at the end."""
        results: list[BatchResult] = []
        with suppress(trio.EndOfChannel):
            slot = self._next or await self._slots.receive()
            results.append(await slot.wait())
            self._next = None
            self._take_ready(results)
        return results

    def _take_ready(self, results: list[BatchResult]) -> None:
        with suppress(trio.WouldBlock):
            while True:
                slot = self._slots.receive_nowait()
                if slot.result is None:
                    self._next = slot
                    return
                results.append(slot.result)


class BatchBody(ResponseBody):
    """The results as the body of a response. An object and not a generator: nothing is left if it is dropped."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def __aenter__(self) -> "BatchBody":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Do nothing: the request's nursery ends what is under way."""

    def __aiter__(self) -> "BatchBody":
        """Iterate, once."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for more results."""
        results = await self._batch.wait_results()
        if not results:
            raise StopAsyncIteration
        return _lines.encode_lines(results)
