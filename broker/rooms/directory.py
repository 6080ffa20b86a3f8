"""All rooms of this node, by name."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import NamedTuple

import attrs
import trio

from actors import (
    ActorStoppedError,
    Failure,
    MailboxFullError,
    Ref,
    Registry,
    RegistryStatistics,
    RestartPolicy,
    open_supervisor,
)
from broker.auth.permissions import find_rule
from broker.config.settings import Settings
from broker.engine.base import Engine, Retention, Run
from broker.engine.presence import Presence
from broker.errors import CloseCode, ErrorCode, RefusalReason, Refused
from broker.log import Log
from broker.model import Draft, Position
from broker.rooms.fanout import Fanout, Tally
from broker.rooms.feed_subscription import FeedSubscription
from broker.rooms.messages import Inspect, Publish, Published, ReadHistory, Remove, RoomInfo, RoomMessage
from broker.rooms.presence.batch import PresenceBatch
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import MemberCount, Roster
from broker.rooms.room import Room
from broker.rooms.state import RoomOptions, RoomState

STOP_SECONDS = 1.0
"""How long a stopping room may take over what waits in its inbox: a drain has little time left by then."""


FULL_RETRY_MS = 1000
"""When to ask again for a room that cannot come up because too many are."""


@attrs.frozen
class RoomsStatistics:
    """A snapshot of all rooms of this node."""

    rooms: int
    """Rooms in memory."""
    members: int
    """Connections, counted once for each room they are in."""
    deliveries: int
    """Notices offered to members since the rooms were opened, also in rooms that are gone by now."""
    deliveries_lost: int
    """Of these, how many were not taken because the member's outbox was full."""
    registry: RegistryStatistics


class RoomLoad(NamedTuple):
    """A room and how much it has said since it came up."""

    room: str
    room_size: int
    said: int


def retention_for(settings: Settings, room: str) -> Retention:
    """Return how much of a room is kept: what the first rule for it says, else the general setting."""
    history = settings.history
    rule = find_rule(settings.rooms, room)
    if rule is None:
        return Retention(history.messages, history.bytes, history.age_seconds)
    return Retention(
        history.messages if rule.history_messages is None else rule.history_messages,
        history.bytes if rule.history_bytes is None else rule.history_bytes,
        history.age_seconds if rule.history_age_seconds is None else rule.history_age_seconds,
    )


class Rooms:
    """Finds a room, or brings it up; made by `open_rooms`. Every method may raise EngineUnavailableError.

    Where a room must come up and `most` are up already, one that is idle is put away for it; if there is none,
    `Refused` is raised (`unavailable`, to be tried again).
    """

    def __init__(
        self,
        registry: Registry[str, RoomMessage],
        states: Mapping[str, RoomState],
        tally: Tally,
        member_count: MemberCount,
        presence: Presence | None = None,
        *,
        most: int,
    ) -> None:
        self._most = most
        self._registry = registry
        self._states = states
        self._tally = tally
        self._member_count = member_count
        self._presence = presence

    def listing(self, *, prefix: str = "", after: str = "", limit: int) -> list[RoomInfo]:
        """Return the rooms in memory whose names begin with `prefix`, by name, from the one behind `after`."""
        names = sorted(name for name in self._states if name > after and name.startswith(prefix))
        started = (state for name in names if (state := self._states[name]).delivered is not None)
        return [state.info() for state in islice(started, limit)]

    async def list_everywhere(self, *, prefix: str = "", after: str = "", limit: int) -> list[RoomInfo]:
        """Return the rooms of `listing`, and those that somebody is in on another node (without their users)."""
        here = self.listing(prefix=prefix, after=after, limit=limit)
        if self._presence is None:
            return here
        rooms = {
            glance.room: RoomInfo(glance.room, glance.size, glance.position, ())
            for glance in await self._presence.list_rooms(prefix=prefix, after=after, limit=limit)
        }
        # Of rooms that somebody is in here this node knows best.
        rooms |= {info.room: info for info in here if info.users or info.room not in rooms}
        return [rooms[name] for name in sorted(rooms)[:limit]]

    def loads(self) -> Iterator[RoomLoad]:
        """Give each room in memory, as it stands when its turn comes; other tasks may run meanwhile."""
        for name, state in list(self._states.items()):
            if state.delivered is not None:
                yield RoomLoad(name, state.presence.size, state.said)

    @property
    def tally(self) -> Tally:
        """What was delivered since the rooms were opened; it goes on counting."""
        return self._tally

    async def tell(
        self, room: str, message: RoomMessage, *, on_start: Callable[[], None] | None = None
    ) -> Ref[RoomMessage]:
        """Send a message to a room; returns the Ref that took it, which stays good while a member is in.

        `on_start` is called first if the room has to come up; what it raises is raised, and nothing is done.
        """
        self._admit(room, on_start)
        return await self._registry.tell(room, message)

    def _admit(self, room: str, on_start: Callable[[], None] | None = None) -> None:
        """Let a room come up, if it is not up.

        :raises Refused: if it may not for now.
        """
        if room in self._registry:
            return
        if on_start is not None:
            on_start()
        if len(self._registry) >= self._most and not self._registry.passivate_one():
            raise Refused(
                ErrorCode.UNAVAILABLE,
                "as many rooms are up as may be (limits.rooms)",
                FULL_RETRY_MS,
                why=RefusalReason.ROOMS_FULL,
            )

    def tell_nowait(self, room: str, message: RoomMessage) -> Ref[RoomMessage] | None:
        """Send as `tell` does, if the room is up and its inbox has space; else do nothing and return None."""
        ref = self._registry.peek(room)
        if ref is not None:
            with suppress(ActorStoppedError, MailboxFullError):
                ref.tell_nowait(message)
                return ref
        return None

    async def publish(self, room: str, draft: Draft) -> Published:
        """Say something in a room; returns once it is in the engine and on its way to the members."""
        self._admit(room)
        return await self._registry.ask(room, lambda reply: Publish(draft, reply=reply))

    async def read(self, room: str, since: Position | None, limit: int, *, reverse: bool) -> Run:
        """Return some of a room's events."""
        self._admit(room)
        return await self._registry.ask(room, lambda reply: ReadHistory(since, limit, reverse, reply))

    async def inspect(self, room: str) -> RoomInfo:
        """Return who is in a room and where it stands."""
        self._admit(room)
        return await self._registry.ask(room, Inspect)

    async def remove(self, room: str, user_id: str) -> int:
        """Remove a user's connections from a room; returns how many there were."""
        self._admit(room)
        return await self._registry.ask(room, lambda reply: Remove(user_id, reply))

    def statistics(self) -> RoomsStatistics:
        """Return a snapshot, in a time that does not depend on how many rooms there are."""
        return RoomsStatistics(
            rooms=len(self._registry),
            members=self._member_count.members,
            deliveries=self._tally.deliveries,
            deliveries_lost=self._tally.deliveries_lost,
            registry=self._registry.statistics(),
        )


@asynccontextmanager
async def open_rooms(
    settings: Settings, engine: Engine, log: Log, *, policy: RestartPolicy | None = None
) -> AsyncIterator[Rooms]:
    """Open the rooms of this node; leaving the block lets each finish what waits in its inbox.

    A room that fails is restarted with its members still in. One that fails past `policy` is given up: its
    members are disconnected with 1011, and whoever comes next finds a new one.
    """
    states: dict[str, RoomState] = {}
    tally, member_count = Tally(), MemberCount()

    def make_factory(name: str) -> Callable[[], Room]:
        options = RoomOptions(
            retention_for(settings, name),
            settings.room.gather_seconds,
            page_messages=settings.history.page_messages,
            page_bytes=settings.history.page_bytes,
            recovery_bytes=settings.history.recovery_bytes,
        )
        batch = PresenceBatch(name, settings.room.gather_above)
        presence = RoomPresence(name, Roster(member_count), batch, engine.presence)
        state = RoomState(name, presence, Fanout(name, tally, log), FeedSubscription(name))
        states[name] = state
        return lambda: Room(state, engine, options)

    def give_up(name: str, error: Exception) -> None:
        log.exception("room given up", room=name, exc_info=error)
        states[name].subscription.close()
        if engine.presence is not None:
            engine.presence.clear(name)
        for member in states[name].roster:
            member.disconnect(CloseCode.INTERNAL_ERROR, "room failed")

    def forget(name: str) -> None:
        # Those who were in a room that was given up have nobody left who would take their leaves.
        member_count.members -= states.pop(name).roster.size

    def tell_failure(failure: Failure) -> None:
        log.exception(
            "room failed",
            exc_info=failure.error,
            actor=failure.name,
            restart_delay_seconds=failure.restart_delay_seconds,
        )

    async with (
        open_supervisor(policy, on_failure=tell_failure, stop_seconds=STOP_SECONDS) as supervisor,
        trio.open_nursery() as nursery,
    ):
        registry: Registry[str, RoomMessage] = Registry(
            supervisor,
            make_factory,
            name="room",
            idle_seconds=settings.room.idle_seconds,
            capacity=settings.limits.mailbox_messages,
            on_escalate=give_up,
            on_stopped=forget,
        )
        nursery.start_soon(registry.run_passivation)
        yield Rooms(registry, states, tally, member_count, engine.presence, most=settings.limits.rooms)
        nursery.cancel_scope.cancel()
