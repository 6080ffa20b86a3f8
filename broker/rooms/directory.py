"""All rooms of this node, by name."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, TypeAlias

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
from broker.clocks import trio_clock
from broker.config.settings import Settings
from broker.engine.base import Engine, Retention, Run
from broker.errors import CloseCode, ErrorCode, RefusalReason, Refused
from broker.log import Log
from broker.model import Draft, IdempotencyKey, Position, PresenceBy
from broker.rooms.code_inspection import CodeInspection
from broker.rooms.fanout import Fanout, do_nothing
from broker.rooms.feed_subscription import FeedSubscription
from broker.rooms.frame import SlowReader
from broker.rooms.messages import (
    Call,
    Inspect,
    Publish,
    Published,
    ReadHistory,
    Remove,
    RoomInfo,
    RoomMessage,
)
from broker.rooms.presence.batch import PresenceBatch
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import MemberCount, Roster
from broker.rooms.room import Room
from broker.rooms.state import RoomOptions, RoomState
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TimeSlice
from broker.rooms.traced_fanout import TracedFanout
from broker.rooms.turn_tally import TurnTally
from broker.rooms.unstarted import UnstartedRooms
from broker.traces.tracer import Tracer

STOP_SECONDS = 1.0
"""Time for a stopping room to empty its mailbox: a drain has little time left by then."""


FULL_RETRY_MS = 1000
"""Delay before a client retries, when a room cannot be started because of `limits.rooms`."""


@attrs.frozen
class RoomsStatistics:
    """A snapshot of all rooms of this node."""

    rooms: int
    """Rooms in memory."""
    members: int
    """Connections, counted once for each room they are in."""
    deliveries: int
    """Notices offered to members since the rooms were opened, passivated rooms included."""
    deliveries_lost: int
    """Those of them that a full outbox refused."""
    registry: RegistryStatistics


class RoomLoad(NamedTuple):
    """A room and the number of messages that it has sent since it was started."""

    room: str
    room_size: int
    messages_sent: int


OnEnd: TypeAlias = Callable[[], None]
"""Is called once, when a room is not in memory any more."""

RetentionPolicy: TypeAlias = Callable[[str], Retention]
"""Returns how much history a room keeps, by its name; never blocks."""


class RoomCode(Protocol):
    """Rooms that have code of their own. Only `inspect` waits."""

    @property
    def tally(self) -> TurnTally:
        """The counts of turns."""
        ...

    def is_for(self, room: str) -> bool:
        """Whether a room has code."""
        ...

    def make_room(self, state: RoomState, options: RoomOptions) -> Callable[[], Room] | None:
        """Return the factory of a room with code; None if it is an ordinary one."""
        ...

    def forget(self, room: str) -> None:
        """Note that a room is not in memory any more."""
        ...

    def state_sizes(self) -> list[int]:
        """Return the sizes in bytes of the states of the rooms that run."""
        ...

    async def inspect(self, room: str) -> CodeInspection | None:
        """Return what is known of a room with code; None if it is an ordinary one. Starts nothing, and runs no turn.

        :raises EngineUnavailableError: if its state cannot be read.
        """
        ...


def retention_for(settings: Settings, room: str) -> Retention:
    """Return a room's retention: from the first rule that matches it, else from the general settings."""
    history = settings.history
    rule = find_rule(settings.rooms, room)
    if rule is None:
        return Retention(history.messages, history.bytes, history.age_seconds)
    return Retention(
        history.messages if rule.history_messages is None else rule.history_messages,
        history.bytes if rule.history_bytes is None else rule.history_bytes,
        history.age_seconds if rule.history_age_seconds is None else rule.history_age_seconds,
    )


def shows_presence_data(settings: Settings, room: str) -> bool:
    """Whether the members of a room are shown each other's info and state, by the first rule that matches it."""
    rule = find_rule(settings.rooms, room)
    return settings.room.presence_data if rule is None or rule.presence_data is None else rule.presence_data


def max_members_for(settings: Settings, room: str) -> int | None:
    """Return how many members a room may have, by the first rule that matches it; None for any number."""
    rule = find_rule(settings.rooms, room)
    return settings.room.max_members if rule is None or rule.max_members is None else rule.max_members


def slow_reader_for(settings: Settings, room: str) -> SlowReader | None:
    """Return the policy of a room's rule towards slow readers; None if it has none of its own."""
    rule = find_rule(settings.rooms, room)
    return None if rule is None else rule.slow_reader


class Rooms:
    """Finds or starts rooms by name; made by `open_rooms`. Every async method may raise EngineUnavailableError.

    To start a room where `max_rooms` are running, an idle one is passivated; if there is none, `Refused` is raised
    (`unavailable`, with a delay for the next try).
    """

    def __init__(
        self,
        registry: Registry[str, RoomMessage],
        states: Mapping[str, RoomState],
        tally: Tally,
        member_count: MemberCount,
        engine: Engine,
        *,
        page_bytes: int,
        max_rooms: int,
        on_ends: dict[str, OnEnd],
        code: RoomCode | None = None,
    ) -> None:
        self._code = code
        self._max_rooms = max_rooms
        self._on_ends = on_ends
        self._engine = engine
        self._unstarted = UnstartedRooms(engine, page_bytes)
        self._registry = registry
        self._states = states
        self._tally = tally
        self._member_count = member_count
        self._presence = engine.presence

    @property
    def turn_tally(self) -> TurnTally | None:
        """The counts of the turns of rooms with code; None if there are no such rooms."""
        return None if self._code is None else self._code.tally

    def code_state_sizes(self) -> list[int]:
        """Return the sizes in bytes of the states of the rooms with code that run here."""
        return [] if self._code is None else self._code.state_sizes()

    def has_code(self, room: str) -> bool:
        """Whether a room has code of its own, which answers calls."""
        return self._code is not None and self._code.is_for(room)

    def list_here(self, *, prefix: str = "", after: str = "", limit: int) -> list[RoomInfo]:
        """Return the rooms in memory whose names start with `prefix`, sorted by name, from the first after `after`."""
        names = sorted(name for name in self._states if name > after and name.startswith(prefix))
        started = (state for name in names if (state := self._states[name]).delivered is not None)
        return [state.info() for state in islice(started, limit)]

    async def list_everywhere(self, *, prefix: str = "", after: str = "", limit: int) -> list[RoomInfo]:
        """Return the rooms of `list_here`, and those with members on other nodes (without their users)."""
        here = self.list_here(prefix=prefix, after=after, limit=limit)
        if self._presence is None:
            return here
        rooms = {
            summary.room: RoomInfo(summary.room, summary.size, summary.position, ())
            for summary in await self._presence.list_rooms(prefix=prefix, after=after, limit=limit)
        }
        # This node has the newest state of rooms that have members here.
        rooms |= {info.room: info for info in here if info.users or info.room not in rooms}
        return [rooms[name] for name in sorted(rooms)[:limit]]

    def peek(self, room: str) -> RoomInfo | None:
        """Return a room as this node has it now, without asking its actor; None if it is not in memory."""
        state = self._states.get(room)
        return None if state is None or state.delivered is None else state.info()

    def loads(self) -> Iterator[RoomLoad]:
        """Iterate over the rooms in memory; each is read when it is reached, and other tasks may run in between."""
        for name, state in list(self._states.items()):
            if state.delivered is not None:
                yield RoomLoad(name, state.presence.size, state.messages_sent)

    @property
    def tally(self) -> Tally:
        """The running counts of deliveries since the rooms were opened."""
        return self._tally

    async def tell(
        self, room: str, message: RoomMessage, *, on_start: Callable[[], OnEnd | None] | None = None
    ) -> Ref[RoomMessage]:
        """Send a message to a room, starting it if need be; returns its Ref, which stays valid while it has members.

        `on_start` is called before a room is started; if it raises, nothing is sent. What it returns is called once that
        room has ended.
        """
        self._admit(room, on_start)
        return await self._registry.tell(room, message)

    def _admit(self, room: str, on_start: Callable[[], OnEnd | None] | None = None) -> None:
        """Make space for a room, if it has to be started.

        :raises Refused: if there is none.
        """
        if room in self._registry:
            return
        on_end = None if on_start is None else on_start()
        if len(self._registry) >= self._max_rooms and not self._registry.passivate_one():
            if on_end is not None:
                on_end()
            raise Refused(
                ErrorCode.UNAVAILABLE,
                "as many rooms are up as may be (limits.rooms)",
                FULL_RETRY_MS,
                why=RefusalReason.ROOMS_FULL,
            )
        if on_end is not None:
            # Another that waits for the same room to stop may have been here before.
            self._on_ends.pop(room, do_nothing)()
            self._on_ends[room] = on_end

    def tell_nowait(self, room: str, message: RoomMessage) -> Ref[RoomMessage] | None:
        """Send as `tell` does, if the room is running and its mailbox has space; else return None."""
        ref = self._registry.peek(room)
        if ref is not None:
            with suppress(ActorStoppedError, MailboxFullError):
                ref.tell_nowait(message)
                return ref
        return None

    def tell_always(self, room: str, message: RoomMessage) -> None:
        """Send a message to a room if it is running, even if its mailbox is full: the caller bounds them."""
        ref = self._registry.peek(room)
        if ref is not None:
            with suppress(ActorStoppedError):
                ref.tell_always(message)

    async def publish(self, room: str, draft: Draft) -> Published:
        """Publish in a room; returns once the event is in the engine and on its way to the members."""
        self._admit(room)
        return await self._registry.ask(room, lambda reply: Publish(draft, reply=reply))

    async def call(self, room: str, method: str, data: bytes | None, key: IdempotencyKey | None) -> bytes:
        """Call a method of a room's code with JSON; returns its result, which a repetition with the same key gets again.

        :raises Refused: if the code refuses it or fails, or the room has none.
        """
        self._admit(room)
        return await self._registry.ask(room, lambda reply: Call(method, data, key, reply=reply))

    async def read(self, room: str, since: Position | None, limit: int, *, reverse: bool) -> Run:
        """Return some of a room's events."""
        if room not in self._registry:
            return await self._unstarted.read(room, since, limit, reverse=reverse)
        return await self._registry.ask(room, lambda reply: ReadHistory(since, limit, reverse, reply))

    async def inspect(self, room: str, by: PresenceBy = PresenceBy.USER) -> RoomInfo:
        """Return a room's members and position; a room that is not up is not started."""
        if room not in self._registry:
            return await self._unstarted.inspect(room, by)
        return await self._registry.ask(room, lambda reply: Inspect(reply, by))

    async def inspect_code(self, room: str) -> CodeInspection | None:
        """Return the class, state, timers and turns of a room with code, without a turn; None if it has none."""
        return None if self._code is None else await self._code.inspect(room)

    async def remove(self, room: str, user_id: str) -> int:
        """Remove a user's connections from a room; returns how many there were."""
        if room not in self._registry:
            return await self._unstarted.remove(room, user_id)
        return await self._registry.ask(room, lambda reply: Remove(user_id, reply))

    async def clear(self, room: str) -> int:
        """Delete a room's history; returns how many events that were. Its members stay, and offsets go on rising."""
        return await self._engine.clear(room)

    def statistics(self) -> RoomsStatistics:
        """Return a snapshot, in constant time."""
        return RoomsStatistics(
            rooms=len(self._registry),
            members=self._member_count.members,
            deliveries=self._tally.deliveries,
            deliveries_lost=self._tally.deliveries_lost,
            registry=self._registry.statistics(),
        )


@asynccontextmanager
async def open_rooms(
    settings: Settings,
    engine: Engine,
    log: Log,
    *,
    retention: RetentionPolicy | None = None,
    policy: RestartPolicy | None = None,
    code: RoomCode | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Rooms]:
    """Open the rooms of this node; at the end of the block each handles the messages in its mailbox and stops.

    `retention` is that of the settings by default. `code` makes the rooms that have code of their own. With a `tracer`,
    fan-outs of traced events are spans.

    A room that fails is restarted with its members. One that fails past `policy` is given up: its members are
    disconnected with 1011, and the next message for its name starts a new room.
    """
    retention = retention or partial(retention_for, settings)
    make_fanout: Callable[..., Fanout] = Fanout
    if tracer is not None:
        make_fanout = partial(TracedFanout, tracer)
    states: dict[str, RoomState] = {}
    on_ends: dict[str, OnEnd] = {}
    tally, member_count, bulk_slice, clock = Tally(), MemberCount(), TimeSlice(), trio_clock()

    def make_factory(name: str) -> Callable[[], Room]:
        slow_reader = slow_reader_for(settings, name)
        options = RoomOptions(
            retention(name),
            settings.room.gather_seconds,
            page_messages=settings.history.page_messages,
            page_bytes=settings.history.page_bytes,
            recovery_bytes=settings.history.recovery_bytes,
            max_members=max_members_for(settings, name),
            holds_back=(slow_reader or settings.websocket.slow_reader) != "disconnect",
        )
        batch = PresenceBatch(name, settings.room.gather_above)
        presence = RoomPresence(
            *(name, Roster(member_count), batch, engine.presence, engine.attendance),
            shows_data=shows_presence_data(settings, name),
        )
        fanout = make_fanout(name, tally, log, bulk_slice, slow_reader, clock=clock)
        state = RoomState(name, presence, fanout, FeedSubscription(name), clock=clock)
        states[name] = state
        with_code = None if code is None else code.make_room(state, options)
        return with_code or (lambda: Room(state, engine, options))

    def give_up(name: str, error: Exception) -> None:
        log.exception("room given up", room=name, exc_info=error)
        states[name].subscription.close()
        states[name].presence.abandon()
        for member in states[name].roster:
            member.disconnect(CloseCode.INTERNAL_ERROR, "room failed")

    def forget(name: str) -> None:
        # The members of a room that was given up have no actor left that would handle their leaves.
        state = states.pop(name)
        member_count.members -= state.roster.size
        state.fanout.abandon()
        on_ends.pop(name, do_nothing)()
        if code is not None:
            code.forget(name)

    def log_failure(failure: Failure) -> None:
        log.exception(
            "room failed",
            exc_info=failure.error,
            actor=failure.name,
            restart_delay_seconds=failure.restart_delay_seconds,
        )

    async with (
        open_supervisor(policy, on_failure=log_failure, stop_seconds=STOP_SECONDS) as supervisor,
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
        yield Rooms(
            registry,
            states,
            tally,
            member_count,
            engine,
            page_bytes=settings.history.page_bytes,
            max_rooms=settings.limits.rooms,
            on_ends=on_ends,
            code=code,
        )
        nursery.cancel_scope.cancel()
