"""Records of rooms with code, for those who inspect them: their turns and last failures. Pure."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping

import attrs
import msgspec

from broker.engine.room_store import StoredRoom
from broker.model import WallClock
from broker.room_actors.classes import ActorClass
from broker.room_actors.runner import TurnRunner
from broker.rooms.code_inspection import CodeFailure, CodeInspection, CodeState, CodeTimer, CodeTurns
from broker.rooms.turn_tally import TurnKind, TurnOutcome, TurnTally

MOST_FAILURES = 1000
"""Rooms whose last failures are kept, those that failed last: also of rooms that are not in memory any more."""
MOST_TEXT_CHARACTERS = 1000


@attrs.define
class LastFailures:
    """The last failure of each room, for the rooms that failed last."""

    _by_room: OrderedDict[str, CodeFailure] = attrs.Factory(OrderedDict)

    def note(self, room: str, failure: CodeFailure) -> None:
        """Keep the failure of a room instead of the one before."""
        self._by_room.pop(room, None)
        self._by_room[room] = failure
        if len(self._by_room) > MOST_FAILURES:
            self._by_room.popitem(last=False)

    def of(self, room: str) -> CodeFailure | None:
        """Return the last failure of a room."""
        return self._by_room.get(room)


@attrs.define
class _KindTally:
    outcomes: Counter[TurnOutcome] = attrs.Factory(Counter)
    total_seconds: float = 0.0
    longest_seconds: float = 0.0


@attrs.define(eq=False)
class RoomRecord:
    """The record of one room while it is in memory; it outlives a failure of the room's actor."""

    room: str
    spec: ActorClass
    _node_tally: TurnTally
    _failures: LastFailures
    _wall_clock: WallClock
    runner: TurnRunner | None = None
    """That of the present actor."""
    _kinds: defaultdict[TurnKind, _KindTally] = attrs.Factory(lambda: defaultdict(_KindTally))

    @property
    def is_running(self) -> bool:
        """Whether there is an instance of the class."""
        return self.runner is not None and self.runner.is_open

    @property
    def state_bytes(self) -> int:
        """The size of the state in memory, as JSON; 0 if there is no instance."""
        return 0 if self.runner is None else self.runner.state_bytes

    def note_turn(self, kind: TurnKind, outcome: TurnOutcome, seconds: float) -> None:
        """Count a turn, for the node as well."""
        self._node_tally.note(kind, outcome, seconds)
        tally = self._kinds[kind]
        tally.outcomes[outcome] += 1
        tally.total_seconds += seconds
        tally.longest_seconds = max(tally.longest_seconds, seconds)

    def note_failure(self, kind: TurnKind, error: Exception) -> None:
        """Keep the exception that a turn has raised."""
        cls = type(error)
        name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        failure = CodeFailure(int(self._wall_clock() * 1000), kind, name, _text_of(error))
        self._failures.note(self.room, failure)

    def turns(self) -> list[CodeTurns]:
        """Return the counts of turns by kind."""
        return [
            CodeTurns(
                kind,
                done=tally.outcomes[TurnOutcome.DONE],
                refused=tally.outcomes[TurnOutcome.REFUSED],
                failed=tally.outcomes[TurnOutcome.FAILED],
                unavailable=tally.outcomes[TurnOutcome.UNAVAILABLE],
                total_ms=tally.total_seconds * 1000,
                longest_ms=tally.longest_seconds * 1000,
            )
            for kind in TurnKind
            if (tally := self._kinds.get(kind)) is not None
        ]


def inspection_of(
    room: str,
    spec: ActorClass,
    stored: StoredRoom,
    record: RoomRecord | None,
    failures: LastFailures,
    *,
    now_ms: int,
    wall_clock: WallClock,
) -> CodeInspection:
    """Return what is known of a room; `now_ms` is of the age clock. Nothing is started, and no turn is run."""
    return CodeInspection(
        room,
        f"{spec.cls.__module__}.{spec.cls.__qualname__}",
        spec.codec.version,
        is_running=record is not None and record.is_running,
        node=None,
        owner=stored.owner,
        state=_state_of(room, spec, stored),
        timers=_timers_of(stored.timers, now_ms, int(wall_clock() * 1000)),
        turns=[] if record is None else record.turns(),
        last_failure=failures.of(room),
    )


def _state_of(room: str, spec: ActorClass, stored: StoredRoom) -> CodeState:
    if stored.state is None:
        content = spec.codec.encode(room, spec.codec.initial())
        return CodeState(msgspec.Raw(content), len(content), spec.codec.version, None)
    content = stored.state.content
    return CodeState(
        msgspec.Raw(content), len(content), stored.state.version, stored_by=stored.state.class_name
    )


def _timers_of(timers: Mapping[str, int], now_ms: int, wall_ms: int) -> list[CodeTimer]:
    in_order = sorted(timers.items(), key=lambda timer: (timer[1], timer[0]))
    return [CodeTimer(name, wall_ms + due_ms - now_ms, due_ms - now_ms) for name, due_ms in in_order]


def _text_of(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # of the application's code
        return ""
    # Half of a surrogate pair has no JSON form.
    return text[:MOST_TEXT_CHARACTERS].encode(errors="replace").decode()
