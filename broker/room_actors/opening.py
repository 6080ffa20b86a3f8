"""Puts the parts of rooms with code together: their classes, their counts, and the one task of their timers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from actors import Reply
from broker.engine.base import Engine
from broker.engine.room_store import RoomStore
from broker.errors import ConfigurationError
from broker.log import Log
from broker.model import WallClock
from broker.room_actors.actor import RoomActor
from broker.room_actors.classes import ActorClass, find_class, read_class
from broker.room_actors.host import ActorHost
from broker.room_actors.records import LastFailures, RoomRecord, inspection_of
from broker.room_actors.runner import TurnRunner
from broker.room_actors.timers import RoomTimers
from broker.rooms.code_inspection import CodeInspection
from broker.rooms.directory import Rooms
from broker.rooms.messages import RoomMessage
from broker.rooms.room import Room
from broker.rooms.state import RoomOptions, RoomState
from broker.rooms.turn_tally import TurnTally


@attrs.frozen(eq=False)
class RoomActors:
    """The rooms with code of one node."""

    classes: Sequence[ActorClass]
    tally: TurnTally
    _engine: Engine
    _store: RoomStore
    _timers: RoomTimers
    _wall_clock: WallClock
    _log: Log
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
        return partial(self._make_host, record, state, options)

    def forget(self, room: str) -> None:
        """See RoomCode."""
        self._records.pop(room, None)

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
        runner = TurnRunner(
            *(record.spec, self._store, state, options), wall_clock=self._wall_clock, log=self._log
        )
        record.runner = runner
        return ActorHost(
            *(state, self._engine, options), runner=runner, record=record, note_timer=self._timers.note
        )

    async def run_timers(self, rooms: Rooms) -> None:
        """Fire timers until cancelled."""

        async def ask(room: str, message: RoomMessage, reply: Reply[None]) -> None:
            ref = await rooms.tell(room, message)
            await ref.wait_reply(reply)

        await self._timers.run(ask)


def open_room_actors(
    classes: Sequence[type[RoomActor[Any]]],
    engine: Engine,
    *,
    most_state_bytes: int,
    wall_clock: WallClock,
    log: Log,
) -> RoomActors:
    """Return the rooms with code.

    :raises ConfigurationError: if a class cannot be used, or the engine does not store such rooms.
    """
    store = engine.room_store
    if store is None or (store.is_shared and engine.peers is None):
        raise ConfigurationError(
            "server.engine: rooms with code of their own need memory:// or sqlite:///PATH; this engine does not store them"
        )
    specs = [read_class(each, most_state_bytes=most_state_bytes) for each in classes]
    return RoomActors(specs, TurnTally(), engine, store, RoomTimers(store), wall_clock, log)
