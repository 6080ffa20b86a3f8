"""Rooms over HTTP: publish, inspect, remove."""

import attrs
import msgspec
from msgspec import UNSET
from quart import Blueprint, Response

from broker.auth.api_keys import ADMIN, PUBLISH, PUBLISH_IN_EACH, READ
from broker.errors import ErrorCode, Refused
from broker.http.api.models import (
    Broadcast,
    BroadcastResults,
    CallHeaders,
    CallResult,
    Cleared,
    History,
    HistoryQuery,
    Message,
    MethodCall,
    Placed,
    PublishHeaders,
    PublishQuery,
    Removed,
    RoomDetails,
    RoomPage,
    RoomQuery,
    RoomsQuery,
    RoomSummary,
    answer,
)
from broker.http.api.operations import operation
from broker.http.api.publishing import RoomPublisher, make_draft_by, make_key, traced
from broker.http.bodies import decode_json, read_json, read_query
from broker.http.deadlines import answer_within
from broker.http.exchange import this_request
from broker.http.problems import Problem, ProblemError
from broker.http.refusals import part_notes
from broker.http.services import HttpServices
from broker.model import Position, check_room_name
from broker.protocol.codec import Lists, encode_event, lists_of
from broker.protocol.content import check_numbers
from broker.rooms.code_inspection import CodeInspection
from broker.rooms.messages import RoomInfo


@attrs.frozen
class RoomRoutes:
    """The routes for rooms and their users."""

    services: HttpServices
    publisher: RoomPublisher

    def add_to(self, api: Blueprint) -> None:
        """Add the routes to a blueprint below /api."""
        messages = "/rooms/<room>/messages"
        api.add_url_rule(messages, view_func=self.publish, methods=["POST"])
        api.add_url_rule(messages, view_func=self.history, methods=["GET"])
        api.add_url_rule(messages, view_func=self.clear, methods=["DELETE"])
        api.add_url_rule("/rooms/<room>/calls/<method>", view_func=self.call, methods=["POST"])
        api.add_url_rule("/broadcast", view_func=self.broadcast, methods=["POST"])
        api.add_url_rule("/rooms", view_func=self.list_rooms, methods=["GET"])
        api.add_url_rule("/rooms/<room>", view_func=self.inspect, methods=["GET"])
        api.add_url_rule("/rooms/<room>/code", view_func=self.inspect_code, methods=["GET"])
        api.add_url_rule("/rooms/<room>/users/<user>", view_func=self.remove, methods=["DELETE"])

    @operation(query=PublishQuery, headers=PublishHeaders, request=Message, response=Placed, need=PUBLISH)
    async def publish(self, room: str) -> Response:
        """Publish a message in a room.

        Answered once it is in the engine. The same Idempotency-Key again is answered with the first position,
        and the message is not published again.
        """
        check_room_name(room)
        query = read_query(PublishQuery)
        key = make_key(this_request().headers.get("Idempotency-Key"))
        message = await read_json(self.services.settings.http)
        draft = traced(make_draft_by(query, message, key), self.services.tracer)
        return answer(await self.publisher.publish(room, draft))

    @operation(headers=CallHeaders, request=MethodCall, response=CallResult, need=PUBLISH)
    async def call(self, room: str, method: str) -> Response:
        """Call a method of a room that has code of its own.

        Answered once all that it changes is stored. The same Idempotency-Key again gets the same answer, and nothing is
        done again.
        """
        if not self.services.rooms.has_code(check_room_name(room)):
            raise ProblemError(
                Problem.of(404, "nothing answers calls in this room: it has no code of its own")
            )
        key = make_key(this_request().headers.get("Idempotency-Key"))
        body = await read_json(self.services.settings.http)
        data = decode_json(body, MethodCall).data if body else UNSET
        if data is not UNSET:
            check_numbers("data", data)
        argument = None if data is UNSET else bytes(data)
        with answer_within(self.services.settings.http.request_seconds):
            result = await self.services.rooms.call(room, method, argument, key)
        return answer(CallResult(msgspec.Raw(result)))

    @operation(
        query=PublishQuery,
        headers=PublishHeaders,
        request=Broadcast,
        response=BroadcastResults,
        need=PUBLISH_IN_EACH,
    )
    async def broadcast(self) -> Response:
        """Publish one message in many rooms.

        Each room fails alone. An Idempotency-Key counts in each room for itself, so a broadcast that came
        through in part can be repeated whole.
        """
        query = read_query(PublishQuery)
        key = make_key(this_request().headers.get("Idempotency-Key"))
        ask = decode_json(await read_json(self.services.settings.http), Broadcast)
        draft = traced(make_draft_by(query, ask.message, key), self.services.tracer)
        note_refused = part_notes(self.services.refusals)
        caller = this_request().caller
        publishing = self.publisher.publish_everywhere(ask.rooms, draft, caller, note_refused)
        return answer(BroadcastResults(await publishing))

    @operation(query=RoomsQuery, response=RoomPage, need=READ)
    async def list_rooms(self) -> Response:
        """List rooms by name.

        These are the rooms with members, and those of this node that had members a short while ago.
        """
        query = read_query(RoomsQuery)
        # One more than asked for shows whether there is another page.
        with answer_within(self.services.settings.http.request_seconds):
            found = await self.services.rooms.list_everywhere(
                prefix=query.prefix, after=query.cursor, limit=query.limit + 1
            )
        page = [_summary(info) for info in found[: query.limit]]
        return answer(RoomPage(page, page[-1].room if len(found) > query.limit else None))

    @operation(query=RoomQuery, response=RoomDetails, need=READ)
    async def inspect(self, room: str) -> Response:
        """Give a room's position and its members on all nodes, as users, as connections or as counts."""
        check_room_name(room)
        by = read_query(RoomQuery).by
        with answer_within(self.services.settings.http.request_seconds):
            info = await self.services.rooms.inspect(room, by)
        lists = Lists() if info.presence is None else lists_of(info.presence)
        return answer(
            RoomDetails(
                *(room, info.room_size, info.position.offset, info.position.epoch),
                has_code=self.services.rooms.has_code(room),
                **lists,
            )
        )

    @operation(response=CodeInspection, need=READ)
    async def inspect_code(self, room: str) -> Response:
        """Give the class, state, timers, turns and last failure of a room that has code of its own.

        The state is the stored one, also while the room is not running. Nothing is started, and no turn is run.
        """
        check_room_name(room)
        with answer_within(self.services.settings.http.request_seconds):
            inspection = await self.services.rooms.inspect_code(room)
        if inspection is None:
            raise ProblemError(Problem.of(404, "this room has no code of its own"))
        if inspection.is_running:
            inspection = msgspec.structs.replace(inspection, node=self.services.node.name)
        return answer(inspection)

    @operation(query=HistoryQuery, response=History, need=READ)
    async def history(self, room: str) -> Response:
        """Give messages of a room, the oldest first unless `reverse`.

        With `since` and `epoch`, those after that position; if its epoch is over, all that are held.
        """
        check_room_name(room)
        query = read_query(HistoryQuery)
        since = _position(query)
        page = self.services.settings.history.page_messages
        limit = page if query.limit is UNSET else min(query.limit, page)
        with answer_within(self.services.settings.http.request_seconds):
            run = await self.services.rooms.read(room, since, limit, reverse=query.reverse)
        position = run.position
        messages = [msgspec.Raw(encode_event(room, position.epoch, event)) for event in run.events]
        if since is None:
            return answer(History(room, messages, position.offset, position.epoch))
        return answer(
            History(room, messages, position.offset, position.epoch, recovered=run.can_continue(since))
        )

    @operation(response=Removed, need=ADMIN)
    async def remove(self, room: str, user: str) -> Response:
        """Remove a user's connections from a room; the user may join again."""
        check_room_name(room)
        with answer_within(self.services.settings.http.request_seconds):
            return answer(Removed(await self.services.rooms.remove(room, user)))

    @operation(response=Cleared, need=ADMIN)
    async def clear(self, room: str) -> Response:
        """Delete a room's history.

        Its members stay, and offsets go on rising. Clients that come back with an earlier position are told that
        messages are missing. Idempotency keys are still known.
        """
        check_room_name(room)
        with answer_within(self.services.settings.http.request_seconds):
            return answer(Cleared(await self.services.rooms.clear(room)))


def _summary(info: RoomInfo) -> RoomSummary:
    return RoomSummary(info.room, info.room_size, info.position.offset, info.position.epoch)


def _position(query: HistoryQuery) -> Position | None:
    if query.since is UNSET and query.epoch is UNSET:
        return None
    if query.since is UNSET:
        raise Refused(ErrorCode.INVALID_MESSAGE, "since: an offset, if epoch is given")
    if query.epoch is UNSET:
        raise Refused(ErrorCode.INVALID_MESSAGE, "epoch: needed with since")
    return Position(query.epoch, query.since)
