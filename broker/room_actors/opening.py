"""Puts the parts of rooms with code together: their classes, their counts, and the one task of their timers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from actors import Reply
from broker.engine.base import Engine
from broker.engine.presence import PresenceBus
from broker.engine.room_store import RoomStore
from broker.errors import ConfigurationError
from broker.log import Log
from broker.model import WallClock
from broker.room_actors.actor import RoomActor
from broker.room_actors.answer_budget import AnswerBudget, AnswerLimits
from broker.room_actors.classes import ActorClass, find_class, read_classes
from broker.room_actors.forwarder import Forwarder
from broker.room_actors.guests import Guests
from broker.room_actors.host import ActorHost
from broker.room_actors.peer_router import PeerRouter
from broker.room_actors.records import LastFailures, RoomRecord, inspection_of
from broker.room_actors.runner import TurnRunner
from broker.room_actors.shared_host import SharedHost
from broker.room_actors.timers import RoomTimers
from broker.rooms.code_inspection import CodeInspection
from broker.rooms.directory import Rooms
from broker.rooms.messages import RoomMessage
from broker.rooms.room import Room
from broker.rooms.state import RoomOptions, RoomState
from broker.rooms.turn_tally import TurnTally

HANDOVER_SECONDS = 2.0
"""Longest time, after the lease of a dead owner, until another node owns its room: requests wait for as long."""


@attrs.frozen(eq=False)
class RoomActors:
    """The rooms with code of one node."""

    classes: Sequence[ActorClass]
    tally: TurnTally
    _engine: Engine
    _store: RoomStore
    _timers: RoomTimers
    _router: PeerRouter | None
    """None if nodes do not share the store."""
    _wall_clock: WallClock
    _log: Log
    _answers: AnswerBudget
    _records: dict[str, RoomRecord] = attrs.Factory(dict)
    _failures: LastFailures = attrs.Factory(LastFailures)

    def is_for(self, room: str) -> bool:
        """See RoomCode."""
        return find_class(self.classes, room) is not None

    def make_room(self, state: RoomState, options: RoomOptions) -> Callable[[], Room] | None:
        """See RoomCode."""
        spec = find_class(self.classes, state.name)
        if spec is None:
            return None
        record = RoomRecord(state.name, spec, self.tally, self._failures, self._wall_clock)
        self._records[state.name] = record
        presence = self._engine.presence
        if self._router is None or presence is None:
            return partial(self._make_host, record, state, options)
        return partial(
            self._make_shared_host,
            *(record, state, options),
            guests=Guests(),
            forwarder=Forwarder(presence.lease_seconds + HANDOVER_SECONDS, self._router.numbers),
            router=self._router,
            bus=presence,
        )

    def forget(self, room: str) -> None:
        """See RoomCode."""
        self._records.pop(room, None)
        if self._router is not None:
            self._router.room_ended(room)

    def state_sizes(self) -> list[int]:
        """See RoomCode."""
        return [record.state_bytes for record in self._records.values() if record.is_running]

    async def inspect(self, room: str) -> CodeInspection | None:
        """See RoomCode."""
        spec = find_class(self.classes, room)
        if spec is None:
            return None
        stored = await self._store.peek(room)
        return inspection_of(
            *(room, spec, stored, self._records.get(room), self._failures),
            now_ms=self._store.now_ms(),
            wall_clock=self._wall_clock,
        )

    def _make_host(self, record: RoomRecord, state: RoomState, options: RoomOptions) -> Room:
        runner = self._make_runner(record, state, options, guests=None)
        return ActorHost(
            *(state, self._engine, options), runner=runner, record=record, note_timer=self._timers.note
        )

    def _make_shared_host(
        self,
        record: RoomRecord,
        state: RoomState,
        options: RoomOptions,
        *,
        guests: Guests,
        forwarder: Forwarder,
        router: PeerRouter,
        bus: PresenceBus,
    ) -> Room:
        return SharedHost(
            *(state, self._engine, options),
            runner=self._make_runner(record, state, options, guests=guests),
            record=record,
            note_timer=self._timers.note,
            guests=guests,
            forwarder=forwarder,
            router=router,
            bus=bus,
        )

    def _make_runner(
        self, record: RoomRecord, state: RoomState, options: RoomOptions, *, guests: Guests | None
    ) -> TurnRunner:
        runner = TurnRunner(
            *(record.spec, self._store, state, options),
            wall_clock=self._wall_clock,
            log=self._log,
            answers=self._answers,
            guests=guests,
        )
        record.runner = runner
        return runner

    async def serve_rooms(self, rooms: Rooms, *, task_status: trio.TaskStatus[None]) -> None:
        """Fire timers, and serve other nodes, until cancelled."""

        async def ask(room: str, message: RoomMessage, reply: Reply[None]) -> None:
            ref = await rooms.tell(room, message)
            await ref.wait_reply(reply)

        async with trio.open_nursery() as nursery:
            if self._router is not None:
                await nursery.start(self._router.serve_rooms, rooms)
            task_status.started()
            await self._timers.run(ask)


def open_room_actors(
    classes: Sequence[type[RoomActor[Any]]],
    engine: Engine,
    *,
    most_state_bytes: int,
    answer_limits: AnswerLimits,
    wall_clock: WallClock,
    log: Log,
) -> RoomActors:
    """Return the rooms with code.

    :raises ConfigurationError: if a class cannot be used, or the engine does not store such rooms.
    """
    store = engine.room_store
    peers = engine.peers
    if store is None or (store.is_shared and peers is None):
        raise ConfigurationError(
            "server.engine: rooms with code of their own need memory://, sqlite:///PATH or redis://; this engine does not store them"
        )
    specs = read_classes(classes, most_state_bytes=most_state_bytes)
    timers = RoomTimers(store, lambda room: find_class(specs, room) is not None)
    router = PeerRouter(peers) if store.is_shared and peers is not None else None
    answers = AnswerBudget(answer_limits, trio.current_time())
    return RoomActors(specs, TurnTally(), engine, store, timers, router, wall_clock, log, answers)
