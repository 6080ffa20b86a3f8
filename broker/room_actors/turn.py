"""The effects that one turn of a room asks for; nothing of it is done before it is stored. Pure."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
import msgspec

from broker.engine.room_store import StoredAnswer, StoredTurn
from broker.errors import Refused
from broker.model import Draft, EventHeader, Excluded
from broker.protocol.content import choosing_header, notifier_content
from broker.protocol.tags import check_excludable, check_tags
from broker.room_actors.values import Member

Recipient = Member | str
"""A connection, or all connections of a user."""

MAX_EXCLUDED = 256
"""Recipients that one message is withheld from; their ids are stored with it."""


class PrivateSay(msgspec.Struct, frozen=True):
    """A message to some members: an event without a position, in no history."""

    content: bytes
    header: EventHeader
    connections: frozenset[str]
    users: frozenset[str]
    excluded: Excluded | None = None

    def is_for(self, user_id: str, connection: str) -> bool:
        """Whether a member gets it."""
        if self.excluded is not None and self.excluded.matches(user_id, connection):
            return False
        return connection in self.connections or user_id in self.users


@attrs.frozen
class TaskStart:
    """A task to start once the turn is stored."""

    name: str
    function: Callable[..., Awaitable[Any]]
    arguments: tuple[object, ...]


@attrs.define
class Turn:
    """The effects of a turn, in the order in which the code asked for them."""

    now_ms: int
    """Of the age clock; timers count from it."""
    now: float
    """Unix seconds of the wall clock."""
    drafts: list[Draft] = attrs.Factory(list)
    private: list[PrivateSay] = attrs.Factory(list)
    timers: dict[str, int | None] = attrs.Factory(dict)
    tasks: list[TaskStart] = attrs.Factory(list)
    answer: StoredAnswer | None = None

    @property
    def has_effect(self) -> bool:
        """Whether it leaves anything to store, besides the state."""
        return bool(self.drafts or self.timers or self.answer is not None)

    def start_task(
        self, name: str, function: Callable[..., Awaitable[Any]], arguments: tuple[object, ...]
    ) -> None:
        """See `RoomActor.spawn`."""
        self.tasks.append(TaskStart(name, function, arguments))

    def stored(self) -> StoredTurn:
        """Return what the store gets."""
        return StoredTurn(self.drafts, self.timers, self.answer)

    def say(
        self,
        message: Mapping[str, object] | msgspec.Struct,
        *,
        to: Recipient | Iterable[Recipient] | None,
        but: Recipient | Iterable[Recipient] | None,
        ephemeral: bool,
        tags: Mapping[str, str] | None,
    ) -> None:
        """See `RoomActor.say`."""
        try:
            content, header = notifier_content(msgspec.json.encode(message))
            check_tags(tags)
            excluded = None if but is None else _exclude(but)
        except (Refused, UnicodeError) as error:
            # Not the requester's fault.
            raise ValueError(str(error)) from None
        if to is not None:
            connections, users = _divide(to)
            self.private.append(PrivateSay(content, header, connections, users, excluded))
            return
        if excluded is not None or tags:
            header = choosing_header(header, tags, excluded)
        self.drafts.append(Draft(content, ephemeral, None, header))


def _exclude(but: Recipient | Iterable[Recipient]) -> Excluded | None:
    connections, users = _divide(but)
    if len(connections) + len(users) > MAX_EXCLUDED:
        raise ValueError(f"but: at most {MAX_EXCLUDED} recipients; tags and filters divide larger rooms")
    for user_id in users:
        check_excludable("but", user_id)
    return Excluded.of(connections, users)


def _divide(to: Recipient | Iterable[Recipient]) -> tuple[frozenset[str], frozenset[str]]:
    recipients = [to] if isinstance(to, str | Member) else list(to)
    return (
        frozenset(each.connection for each in recipients if isinstance(each, Member)),
        frozenset(each for each in recipients if isinstance(each, str)),
    )
