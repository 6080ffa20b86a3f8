"""Runs the turns of one room's code, one at a time, and stores them together."""

import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import trio

from broker.engine.base import Receipt
from broker.engine.room_store import Answer, RoomStore, StoredState
from broker.errors import GreenroomError
from broker.log import Log
from broker.model import IdempotencyKey, WallClock
from broker.room_actors.actor import RoomActor
from broker.room_actors.answer_budget import AnswerBudget
from broker.room_actors.classes import ActorClass
from broker.room_actors.guests import Guests
from broker.room_actors.turn import Turn
from broker.room_actors.values import Member, member_of
from broker.rooms import member as rooms_member
from broker.rooms.state import RoomOptions, RoomState

T = TypeVar("T")

_NOT_THE_APPLICATION = frozenset({"actors", "broker", "outcome", "trio"})


class SlowTurnError(GreenroomError):
    """A turn took longer than `turn_seconds`, and was cancelled."""


class TurnRunner:
    """One instance of the application's class, its stored and its present state.

    Turns that were run wait in order until `store` stores them; the state is that after the last of them.
    """

    def __init__(
        self,
        spec: ActorClass,
        store: RoomStore,
        room: RoomState,
        options: RoomOptions,
        *,
        wall_clock: WallClock,
        log: Log,
        answers: AnswerBudget,
        guests: Guests | None = None,
    ) -> None:
        """`answers` decides what is stored of those; `guests` are the members on other nodes, where nodes share the store."""
        self.answers = answers
        self._guests = guests
        self.spec = spec
        self.log = log.bind(room=room.name)
        self._store = store
        self._room = room
        self._options = options
        self._wall_clock = wall_clock
        self._actor: RoomActor[Any] | None = None
        self._turn: Turn | None = None
        self._waiting: list[Turn] = []
        # Valid while there is an instance.
        self._stored: StoredState | None = None
        self._content = b""  # the state after the last turn, as JSON
        self._initial = b""
        self._timers: dict[str, int] = {}

    @property
    def name(self) -> str:
        """See RoomView."""
        return self._room.name

    @property
    def turn(self) -> Turn:
        """See RoomView."""
        if self._turn is None:
            raise RuntimeError("a room's code runs in turns only; a task says and sets nothing (see on_task)")
        return self._turn

    @property
    def timers(self) -> Mapping[str, int]:
        """See RoomView."""
        if self._turn is None or not self._turn.timers:
            return self._timers
        return _with_changes(self._timers, self._turn.timers)

    def members(self) -> Sequence[Member]:
        """See RoomView."""
        here = [as_member(each) for each in self._room.roster if each.is_visible]
        return here if self._guests is None else [*here, *self._guests.members()]

    @property
    def is_open(self) -> bool:
        """Whether there is an instance."""
        return self._actor is not None

    @property
    def state_bytes(self) -> int:
        """The size of the state after the last turn, as JSON; 0 if there is no instance."""
        return 0 if self._actor is None else len(self._content)

    def is_answered_soon(self, key: IdempotencyKey) -> bool:
        """Whether a waiting turn has the answer for a key."""
        return any(turn.answer is not None and turn.answer.key == key for turn in self._waiting)

    async def recall(self, key: IdempotencyKey) -> Answer | None:
        """Return the stored answer for a key.

        :raises EngineUnavailableError: if it cannot be read.
        """
        return await self._store.recall(self.name, key)

    async def open(self, prepare: Callable[[], Awaitable[None]]) -> Turn | None:
        """Load the room, `prepare`, and run `on_open`, if there is no instance; returns that turn.

        :raises EngineUnavailableError: if it cannot be read.
        :raises StateError: if the state cannot be read.
        :raises Exception: of the application's code.
        """
        if self._actor is not None:
            return None
        stored = await self._store.load(self.name)
        codec = self.spec.codec
        actor = self.spec.cls()
        actor.room_view = self
        actor.state = initial = codec.initial()
        self._initial = codec.encode(self.name, initial)
        if stored.state is not None:
            actor.state = codec.load(self.name, stored.state)
        self._stored, self._timers = stored.state, dict(stored.timers)
        self._content = codec.encode(self.name, actor.state)
        await prepare()
        self._actor = actor
        try:
            _, turn = await self.run(lambda actor: actor.on_open())
        except BaseException:
            self.close()
            raise
        return turn

    async def release(self) -> None:
        """Give the room up, so that another node may own it at once.

        :raises EngineUnavailableError: if that cannot be stored: then this node owns it as long as it is alive.
        """
        await self._store.release(self.name)

    def close(self) -> None:
        """Forget the instance and all that was not stored: the next turn begins with the stored state."""
        self._actor = None
        self._waiting = []

    async def run(self, handler: Callable[[RoomActor[Any]], Awaitable[T]]) -> tuple[T, Turn]:
        """Run one turn, which then waits to be stored; returns the result of `handler`.

        :raises Refusal: of the handler; the state is as before.
        :raises SlowTurnError: if it takes too long.
        :raises StateError: if its state cannot be stored.
        :raises Exception: of the application's code. The instance is of no use then: `close` it.
        """
        actor = self._actor
        assert actor is not None, "open"
        turn = self._turn = self._new_turn()
        try:
            result = await _in_time(handler, actor)
            content = self.spec.codec.encode(self.name, actor.state)
            if content != self._content:
                self.spec.codec.check(self.name, content)
        except BaseException:
            actor.state = self.spec.codec.decode(self._content)
            raise
        finally:
            self._turn = None
        self._content = content
        self._timers = _with_changes(self._timers, turn.timers)
        self._waiting.append(turn)
        return result, turn

    @property
    def has_effect(self) -> bool:
        """Whether the waiting turns leave anything to store."""
        return self._state_now() != self._stored or any(turn.has_effect for turn in self._waiting)

    def _state_now(self) -> StoredState | None:
        if self._content == self._initial:
            return None
        codec = self.spec.codec
        return StoredState(codec.class_name, codec.version, self._content)

    def run_nothing(self) -> Turn:
        """Add a turn without effect behind those that wait."""
        turn = self._new_turn()
        self._waiting.append(turn)
        return turn

    def _new_turn(self) -> Turn:
        return Turn(self._store.now_ms(), self._wall_clock())

    async def store(self) -> Sequence[Sequence[Receipt]]:
        """Store the waiting turns; returns the receipts of each.

        :raises EngineUnavailableError: if that fails: then none of them has happened.
        """
        turns, self._waiting = self._waiting, []
        state = self._state_now()
        is_changed = state != self._stored
        try:
            receipts = await self._write(turns, state, is_changed=is_changed)
        except BaseException:
            self.close()
            raise
        self._stored = state
        return receipts

    async def _write(
        self, turns: Sequence[Turn], state: StoredState | None, *, is_changed: bool
    ) -> Sequence[Sequence[Receipt]]:
        name, retention = self.name, self._options.retention
        has_effect = is_changed or any(turn.has_effect for turn in turns)
        # Where nodes share the store, a node that does not own the room any more must not answer either.
        if not has_effect and not self._store.is_shared:
            return [() for _ in turns]
        stored = [turn.stored() for turn in turns]
        return await self._store.store(name, stored, state, retention, is_state_changed=is_changed)


async def _in_time(handler: Callable[[RoomActor[Any]], Awaitable[T]], actor: RoomActor[Any]) -> T:
    waited_at = ""
    with trio.move_on_after(actor.turn_seconds):
        try:
            return await handler(actor)
        except trio.Cancelled as cancelled:
            waited_at = _place_in_application(cancelled)
            raise
    raise SlowTurnError(
        f"a turn of {type(actor).__qualname__} took over {actor.turn_seconds:g} seconds{waited_at}"
    )


def _place_in_application(error: BaseException) -> str:
    """Return the innermost place that is neither ours nor trio's."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _NOT_THE_APPLICATION:
            place = f", at {PurePath(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"
    return place


def as_member(member: rooms_member.Member) -> Member:
    """Return a member as a room's code sees it."""
    return member_of(member.shown)


def as_sender(member: rooms_member.Member | None) -> Member | None:
    """Return the sender of a request as a room's code sees it; None for a service."""
    return None if member is None else member_of(member.shown)


def _with_changes(timers: Mapping[str, int], changes: Mapping[str, int | None]) -> dict[str, int]:
    merged = {**timers, **changes}
    return {name: due_ms for name, due_ms in merged.items() if due_ms is not None}
