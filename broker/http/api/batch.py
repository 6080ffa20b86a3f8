"""Any number of publishes in one request, answered while it is being received."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain

import attrs
import msgspec
import trio
from msgspec import UNSET, UnsetType
from quart import Blueprint, Response
from quart.wrappers.response import ResponseBody

from actors import Ref, Reply
from broker.auth.api_keys import PUBLISH_IN_EACH, Caller
from broker.config.scopes import Scope
from broker.errors import EngineUnavailableError, ErrorCode, Refused
from broker.http.api.lines import Line, LineSplitter
from broker.http.api.models import BatchLine, BatchResult, Placed
from broker.http.api.operations import operation
from broker.http.api.publishing import FAILURES, error_info, make_draft, make_key, traced
from broker.http.bodies import NDJSON_TYPES, check_content, check_utf8, decode_json, find_names
from broker.http.deadlines import answer_within
from broker.http.exchange import PacedBody, this_request
from broker.http.refusals import part_notes
from broker.http.services import HttpServices
from broker.model import Draft, check_room_name
from broker.notices import RequestId
from broker.protocol.tags import check_excluded
from broker.rooms.messages import Publish, Published, RoomMessage

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

    @operation(
        request=BatchLine,
        response=BatchResult,
        request_media=NDJSON_TYPE,
        response_media=NDJSON_TYPE,
        need=PUBLISH_IN_EACH,
    )
    async def publish_lines(self) -> Response:
        """Publish lines, each for a room of its own, and stream a result for each in the same order.

        Results come while the request is still being sent, and must be read meanwhile: the server stops reading
        when too many wait to be read. A bad line fails alone. `id` is the line's idempotency key. The lines of one
        room keep their order. The request may be of any length; when nothing comes for http.request_seconds,
        or the server is stopping, it is answered up to there and ended.
        """
        check_content(NDJSON_TYPES)
        request = this_request()
        batch = Batch(self.services, request.caller, part_notes(self.services.refusals))
        batch.run_in(request.nursery)
        request.exits.callback(batch.close)
        request.nursery.start_soon(batch.read, request.body)
        response = Response(BatchBody(batch), content_type=NDJSON_TYPE)
        response.timeout = None
        return response


@attrs.frozen
class _Ask:
    """The publish of a valid line."""

    room: str
    draft: Draft


@attrs.define(eq=False)
class _Slot:
    """One line in progress: with a result, or with an ask and, once that is sent to the room, a ref and a reply."""

    number: int
    id: RequestId = None
    room: str | UnsetType = UNSET
    ask: _Ask | None = None
    result: BatchResult | None = None
    ref: Ref[RoomMessage] | None = None
    reply: Reply[Published] = attrs.Factory(Reply)
    sent: trio.Event | None = None
    """Set when the room has the line, or never will; None if it was sent without a task."""
    give_up_at: float = 0.0
    """The trio time at which sending it is given up."""

    @property
    def is_done(self) -> bool:
        """Whether the result can be had without waiting."""
        return self.result is not None or self.reply.is_settled

    def accept(self, ref: Ref[RoomMessage]) -> None:
        """Note that the room has it. No checkpoint may come in between."""
        self.ref = ref
        ref.watch(self.reply)

    def release(self) -> None:
        """Stop waiting for the room; safe to call twice."""
        if self.ref is not None:
            self.ref.unwatch(self.reply)
            self.ref = None

    def finish(self) -> BatchResult:
        """Return the result, once it is done."""
        self.release()
        if self.result is None:
            assert self.ask is not None
            try:
                placed = Placed.of(self.ask.room, self.reply.get_nowait())
            except FAILURES as error:
                self.fail(error)
            else:
                self.result = BatchResult(line=self.number, id=self.id, **msgspec.structs.asdict(placed))
        assert self.result is not None
        return self.result

    def fail(self, error: Exception) -> None:
        self.result = BatchResult(line=self.number, id=self.id, room=self.room, error=error_info(error))


class Batch:
    """Publishes the lines of one request.

    A line is sent to its room in a plain call. Only if that has to wait, for the room to start or for space in its
    mailbox, a task does it, together with later lines for the same room; see `run_in`.
    """

    def __init__(self, services: HttpServices, caller: Caller, note_refused: Callable[[str], None]) -> None:
        """Each room is checked for `caller`. `note_refused` is called with the code of each line that is refused."""
        self._services = services
        self._nursery: trio.Nursery | None = None
        self._settings = services.settings.http
        self._caller = caller
        self._note_refused = note_refused
        self._sender, self._slots = trio.open_memory_channel[_Slot](LOOK_AHEAD_LINES)
        # The lines that wait for a task to send them, by room.
        self._waiting: dict[str, deque[_Slot]] = {}
        self._open: set[_Slot] = set()
        self._next: _Slot | None = None

    def run_in(self, nursery: trio.Nursery) -> None:
        """Send the lines that wait for their rooms, and those that will wait, in tasks of `nursery`."""
        self._nursery = nursery
        for room, waiting in self._waiting.items():
            nursery.start_soon(self._send_waiting, room, waiting)

    def add_all(self, content: bytes) -> None:
        """Add all lines, of which there are at most LOOK_AHEAD_LINES, with blank ones."""
        splitter = LineSplitter(self._settings.body_bytes)
        with self._sender:
            for line in chain(splitter.feed(content), splitter.finish()):
                slot = self._make_slot(line)
                self._sender.send_nowait(slot)
                self._begin(slot)

    async def read(self, body: PacedBody) -> None:
        """Read lines from the body to its end; waits while too many results are unread."""
        splitter = LineSplitter(self._settings.body_bytes)
        with self._sender:
            while (chunk := await self._next_chunk(body)) is not None:
                for line in splitter.feed(chunk):
                    await self._add(line)
            for line in splitter.finish():
                await self._add(line)

    async def _next_chunk(self, body: PacedBody) -> bytes | None:
        if self._services.is_draining():
            return None
        with trio.move_on_after(self._settings.request_seconds):
            return await anext(body, None)
        return None

    async def _add(self, line: Line) -> None:
        slot = self._make_slot(line)
        # Waits for space first: each line published is answered.
        try:
            self._sender.send_nowait(slot)
        except trio.WouldBlock:
            await self._sender.send(slot)
        self._begin(slot)

    def _make_slot(self, line: Line) -> _Slot:
        slot = _Slot(line.number)
        try:
            slot.ask = self._parse(line, slot)
        except Refused as refused:
            slot.fail(refused)
        return slot

    def _begin(self, slot: _Slot) -> None:
        if slot.ask is not None:
            self._open.add(slot)
            self._send(slot, slot.ask)

    def _parse(self, line: Line, slot: _Slot) -> _Ask:
        """Parse a line; `slot` gets its id and room, also if the rest is wrong."""
        if line.text is None:
            limit = self._settings.body_bytes
            raise Refused(ErrorCode.INVALID_MESSAGE, f"a line has at most {limit} bytes (http.body_bytes)")
        try:
            fields = decode_json(check_utf8(line.text), BatchLine)
        except Refused:
            slot.id, slot.room = find_names(line.text)
            raise
        slot.id = fields.id
        slot.room = fields.room
        key = None if fields.id is None else str(fields.id)
        excluded = check_excluded(fields.exclude_user, fields.exclude_connection)
        draft = make_draft(fields.message, make_key(key, "id"), tags=fields.tags, excluded=excluded)
        if self._services.tracer is not None:
            draft = traced(draft, self._services.tracer)
        room = check_room_name(fields.room)
        self._caller.check(Scope.PUBLISH, room)
        return _Ask(room, draft)

    def _send(self, slot: _Slot, ask: _Ask) -> None:
        waiting = self._waiting.get(ask.room)
        if waiting is None:
            if self._send_nowait(slot, ask):
                return
            waiting = self._waiting[ask.room] = deque()
            if self._nursery is not None:
                self._nursery.start_soon(self._send_waiting, ask.room, waiting)
        slot.sent = trio.Event()
        slot.give_up_at = trio.current_time() + self._settings.request_seconds
        waiting.append(slot)

    def _send_nowait(self, slot: _Slot, ask: _Ask) -> bool:
        ref = self._services.rooms.tell_nowait(ask.room, Publish(ask.draft, reply=slot.reply))
        if ref is not None:
            slot.accept(ref)
        return ref is not None

    async def _send_waiting(self, room: str, waiting: deque[_Slot]) -> None:
        """Send the waiting lines to a room, in order, with those that are added meanwhile."""
        while waiting:
            slot = waiting[0]
            assert slot.ask is not None
            if not self._send_nowait(slot, slot.ask):
                await self._send_or_fail(slot, slot.ask)
            assert slot.sent is not None
            slot.sent.set()
            waiting.popleft()
        # No checkpoint since `waiting` was found empty.
        del self._waiting[room]

    async def _send_or_fail(self, slot: _Slot, ask: _Ask) -> None:
        try:
            with answer_within(max(0.0, slot.give_up_at - trio.current_time())):
                slot.accept(await self._services.rooms.tell(ask.room, Publish(ask.draft, reply=slot.reply)))
        except FAILURES as error:
            slot.fail(error)

    def ready_results(self) -> list[BatchResult]:
        """Return the results that are done, before any is waited for."""
        results: list[BatchResult] = []
        self._add_ready(results)
        return results

    @property
    def is_waited_for(self) -> bool:
        """Whether `ready_results` has found a result that was not done."""
        return self._next is not None

    async def wait_results(self) -> list[BatchResult]:
        """Wait for the next result; returns it with those after it that are done; empty at the end."""
        results: list[BatchResult] = []
        with suppress(trio.EndOfChannel):
            slot = self._next or await self._slots.receive()
            self._next = slot
            await self._wait_done(slot)
            self._next = None
            results.append(self._finish(slot))
            self._add_ready(results)
        return results

    async def _wait_done(self, slot: _Slot) -> None:
        if slot.sent is not None:
            await slot.sent.wait()
        if not slot.is_done:
            try:
                with answer_within(self._settings.request_seconds), suppress(*FAILURES):
                    await slot.reply.wait()
            except EngineUnavailableError as error:
                slot.fail(error)

    def _add_ready(self, results: list[BatchResult]) -> None:
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                slot = self._slots.receive_nowait()
                if not slot.is_done:
                    self._next = slot
                    return
                results.append(self._finish(slot))

    def _finish(self, slot: _Slot) -> BatchResult:
        self._open.discard(slot)
        result = slot.finish()
        if result.error is not UNSET:
            self._note_refused(result.error.code)
        return result

    def close(self) -> None:
        """Stop waiting for rooms, whose answers nobody will read."""
        for slot in self._open:
            slot.release()
        self._open.clear()


def encode_results(results: Sequence[BatchResult]) -> bytes:
    """Return the lines of results."""
    return _lines.encode_lines(results)


class BatchBody(ResponseBody):
    """The results as the body of a response. An object, not a generator, which would need closing."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def __aenter__(self) -> "BatchBody":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Do nothing: the request's nursery ends the batch."""

    def __aiter__(self) -> "BatchBody":
        """Iterate, once."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for more results."""
        results = await self._batch.wait_results()
        if not results:
            raise StopAsyncIteration
        return encode_results(results)
