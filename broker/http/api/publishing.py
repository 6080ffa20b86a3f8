"""Common parts of the routes that publish one message, to many rooms, or many lines. Without Quart."""

from collections.abc import Callable, Mapping, Sequence

import attrs
import msgspec
import trio
from msgspec import UNSET

from actors import ActorError, Reply
from broker.auth.api_keys import Caller
from broker.config.scopes import Scope
from broker.errors import EngineUnavailableError, ErrorCode, Refused
from broker.http.api.models import ErrorInfo, Outcome, Placed, PublishQuery
from broker.http.deadlines import answer_within
from broker.http.problems import refusal_of
from broker.model import Draft, Excluded, IdempotencyKey, check_room_name
from broker.protocol.content import choosing_header, notifier_content
from broker.protocol.tags import check_excluded, parse_tags
from broker.rooms.directory import Rooms
from broker.rooms.messages import Publish, Published
from broker.traces.tracer import Tracer

MAX_KEY_CHARACTERS = 128

BROADCAST_TASKS = 32
"""Rooms of a broadcast that are published in at the same time."""

FAILURES = (Refused, EngineUnavailableError, ActorError)
"""Errors of a publish that are answered to the client."""


def make_key(key: str | None, name: str = "Idempotency-Key") -> IdempotencyKey | None:
    """Return the key of a notifier's publish; `name` is its header or field.

    :raises Refused: `invalid_message` if it is too long or empty.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise Refused(ErrorCode.INVALID_MESSAGE, f"{name}: 1 to {MAX_KEY_CHARACTERS} characters")
    return IdempotencyKey("http", key)


def make_draft(
    message: bytes | msgspec.Raw,
    key: IdempotencyKey | None,
    *,
    is_ephemeral: bool = False,
    tags: Mapping[str, str] | None = None,
    excluded: Excluded | None = None,
) -> Draft:
    """Return the draft of a notifier's message, for filters and exclusions of recipients.

    :raises Refused: if it is no message that all clients could read; see `notifier_content`.
    """
    content, header = notifier_content(message)
    if tags or excluded is not None:
        header = choosing_header(header, tags, excluded)
    return Draft(content, is_ephemeral, key, header)


def traced(draft: Draft, tracer: Tracer | None) -> Draft:
    """Return the draft with the span of the present request, if requests are traced and it is sampled."""
    traceparent = None if tracer is None else tracer.current.get()
    if traceparent is None:
        return draft
    header = msgspec.structs.replace(draft.header, traceparent=traceparent)
    return msgspec.structs.replace(draft, header=header)


def make_draft_by(query: PublishQuery, message: bytes | msgspec.Raw, key: IdempotencyKey | None) -> Draft:
    """Return the draft of a notifier's message with the options of a request.

    :raises Refused: as `make_draft`; also for the tags.
    """
    tags = None if query.tags is UNSET else parse_tags(query.tags)
    excluded = check_excluded(query.exclude_user or None, query.exclude_connection or None)
    return make_draft(message, key, is_ephemeral=query.ephemeral, tags=tags, excluded=excluded)


def error_info(error: Exception) -> ErrorInfo:
    """Return the error of one message among many."""
    refused = refusal_of(error)
    return ErrorInfo(refused.code.value, refused.message, refused.retry_after_ms)


@attrs.frozen
class RoomPublisher:
    """Publishes drafts in rooms, each within `limit_seconds`."""

    rooms: Rooms
    limit_seconds: float

    async def publish(self, room: str, draft: Draft) -> Placed:
        """Publish in one room; no checkpoint if the room stores the message in a borrowed turn.

        :raises Refused, EngineUnavailableError, ActorError: see FAILURES.
        """
        reply: Reply[Published] = Reply()
        ref = self.rooms.tell_nowait(room, Publish(draft, reply=reply))
        if ref is not None and reply.is_settled:
            return Placed.of(room, reply.get_nowait())
        with answer_within(self.limit_seconds):
            if ref is not None:
                return Placed.of(room, await ref.wait_reply(reply))
            return Placed.of(room, await self.rooms.publish(room, draft))

    async def publish_everywhere(
        self, rooms: Sequence[str], draft: Draft, caller: Caller, note_refused: Callable[[str], None]
    ) -> list[Outcome]:
        """Publish in those of many rooms that `caller` may publish in.

        Each fails alone, and the code of its error is passed to `note_refused`.
        """
        outcomes: dict[int, Outcome] = {}
        waiting = iter(enumerate(rooms))

        async def publish_some() -> None:
            for index, room in waiting:
                # Borrowed turns of a thousand rooms must not hold up the other tasks.
                await trio.lowlevel.checkpoint()
                try:
                    caller.check(Scope.PUBLISH, check_room_name(room))
                    placed = await self.publish(room, draft)
                except FAILURES as error:
                    info = error_info(error)
                    note_refused(info.code)
                    outcomes[index] = Outcome(room=room, error=info)
                else:
                    outcomes[index] = Outcome(**msgspec.structs.asdict(placed))

        async with trio.open_nursery() as nursery:
            for _ in range(min(BROADCAST_TASKS, len(rooms))):
                nursery.start_soon(publish_some)
        return [outcomes[index] for index in range(len(rooms))]
