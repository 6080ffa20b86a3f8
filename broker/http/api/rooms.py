"""Rooms over HTTP: publish, inspect, remove."""

from collections.abc import Sequence

import attrs
import msgspec
import trio
from msgspec import UNSET
from quart import Blueprint, Response

from broker.errors import CloseCode, ErrorCode, Refused
from broker.http.api.models import (
    Broadcast,
    BroadcastResults,
    Disconnected,
    History,
    HistoryQuery,
    Message,
    Outcome,
    Placed,
    PublishHeaders,
    PublishQuery,
    Removed,
    RoomDetails,
    RoomPage,
    RoomsQuery,
    RoomSummary,
    answer,
)
from broker.http.api.openapi import operation
from broker.http.api.publishing import FAILURES, error_info, make_key
from broker.http.bodies import decode_json, read_json, read_query
from broker.http.deadlines import answer_within
from broker.http.exchange import this_request
from broker.http.refusals import part_notes
from broker.http.services import HttpServices
from broker.model import Draft, Position, check_room_name
from broker.protocol.codec import encode_event
from broker.protocol.content import notifier_content
from broker.rooms.messages import RoomInfo

BROADCAST_TASKS = 32
"""The number of rooms that a broadcast publishes in at a time."""


@attrs.frozen
class RoomRoutes:
    """The routes for rooms and their users."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the routes to a blueprint below /api."""
        messages = "/rooms/<room>/messages"
        api.add_url_rule(messages, view_func=self.publish, methods=["POST"])
        api.add_url_rule(messages, view_func=self.history, methods=["GET"])
        api.add_url_rule("/broadcast", view_func=self.broadcast, methods=["POST"])
        api.add_url_rule("/rooms", view_func=self.list_rooms, methods=["GET"])
        api.add_url_rule("/rooms/<room>", view_func=self.inspect, methods=["GET"])
        api.add_url_rule("/rooms/<room>/users/<user>", view_func=self.remove, methods=["DELETE"])
        api.add_url_rule("/users/<user>", view_func=self.disconnect, methods=["DELETE"])

    @operation(query=PublishQuery, headers=PublishHeaders, request=Message, response=Placed)
    async def publish(self, room: str) -> Response:
        """Publish a message in a room.

        Answered once it is in the engine. The same Idempotency-Key again is answered with the first position,
        and the message is not published again.
        """
        check_room_name(room)
        query = read_query(PublishQuery)
        key = make_key(this_request().headers.get("Idempotency-Key"))
        content, header = notifier_content(await read_json(self.services.settings.http))
        return answer(await self._publish(room, Draft(content, query.ephemeral, key, header)))

    @operation(query=PublishQuery, headers=PublishHeaders, request=Broadcast, response=BroadcastResults)
    async def broadcast(self) -> Response:
        """Publish one message in many rooms.

        Each room fails alone. An Idempotency-Key counts in each room for itself, so a broadcast that came
        through in part can be repeated whole.
        """
        query = read_query(PublishQuery)
        key = make_key(this_request().headers.get("Idempotency-Key"))
        ask = decode_json(await read_json(self.services.settings.http), Broadcast)
        content, header = notifier_content(ask.message)
        draft = Draft(content, query.ephemeral, key, header)
        return answer(BroadcastResults(await self._publish_everywhere(ask.rooms, draft)))

    async def _publish_everywhere(self, rooms: Sequence[str], draft: Draft) -> list[Outcome]:
        results: dict[int, Outcome] = {}
        waiting = iter(enumerate(rooms))
        note = part_notes(self.services.refusals)

        async def publish_some() -> None:
            for index, room in waiting:
                try:
                    placed = await self._publish(check_room_name(room), draft)
                except FAILURES as error:
                    info = error_info(error)
                    note(info.code)
                    results[index] = Outcome(room=room, error=info)
                else:
                    results[index] = Outcome(**msgspec.structs.asdict(placed))

        async with trio.open_nursery() as nursery:
            for _ in range(min(BROADCAST_TASKS, len(rooms))):
                nursery.start_soon(publish_some)
        return [results[index] for index in range(len(rooms))]

    async def _publish(self, room: str, draft: Draft) -> Placed:
        with answer_within(self.services.settings.http.request_seconds):
            return Placed.of(room, await self.services.rooms.publish(room, draft))

    @operation(query=RoomsQuery, response=RoomPage)
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

    @operation(response=RoomDetails)
    async def inspect(self, room: str) -> Response:
        """Give a room's position and its users."""
        check_room_name(room)
        with answer_within(self.services.settings.http.request_seconds):
            return answer(RoomDetails.of(await self.services.rooms.inspect(room)))

    @operation(query=HistoryQuery, response=History)
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

    @operation(response=Removed)
    async def remove(self, room: str, user: str) -> Response:
        """Remove a user's connections from a room; the user may join again."""
        check_room_name(room)
        with answer_within(self.services.settings.http.request_seconds):
            return answer(Removed(await self.services.rooms.remove(room, user)))

    @operation(response=Disconnected)
    async def disconnect(self, user: str) -> Response:
        """Close all connections of a user with 4004, after which clients do not reconnect.

        On all nodes; the answer counts those of the node that was asked.
        """
        removed = self.services.connections.disconnect_user(
            user, CloseCode.REMOVED, "removed by the application"
        )
        presence = self.services.engine.presence
        if presence is not None:
            with answer_within(self.services.settings.http.request_seconds):
                await presence.close_user(user)
        return answer(Disconnected(removed))


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
