"""Turns of a room's code: run one after the other, stored together, and told of once they are."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import attrs
import trio

from actors import ActorStoppedError
from broker.engine.base import Engine, Receipt
from broker.errors import EngineUnavailableError
from broker.model import Event, Shown
from broker.notices import RoomEvent
from broker.room_actors.actor import RoomActor
from broker.room_actors.peer_messages import CallRequest, GuestRequest
from broker.room_actors.records import RoomRecord
from broker.room_actors.runner import TurnRunner
from broker.room_actors.turn import PrivateSay, TaskStart, Turn
from broker.room_actors.values import Refusal
from broker.rooms.answers import reply_to
from broker.rooms.messages import Call, ForCode, Publish, RoomMessage, TaskEnded, TimerDue
from broker.rooms.room import Room
from broker.rooms.state import RoomOptions, RoomState
from broker.rooms.turn_tally import TurnKind, TurnOutcome

T = TypeVar("T")


@attrs.frozen
class LeaveTurn:
    """The turn of a member that has left."""

    member: Shown


@attrs.frozen
class TryAgain(ForCode):
    """The timer of turns that nobody would ask for again, and that could not be stored."""


TurnMessage: TypeAlias = Publish | Call | TimerDue | TaskEnded | GuestRequest | LeaveTurn
"""What is one turn each, and nothing else."""


@attrs.frozen
class Waiting:
    """A turn that waits to be stored; `finish` answers it, by the receipts of its drafts."""

    turn: Turn
    finish: Callable[[Sequence[Receipt]], None]
    refuse: Callable[[EngineUnavailableError], None]


def _do_nothing(_unused: object) -> None:
    pass


class TurnHost(Room):
    """A room whose turns are those of an application's class, and wait until they are stored.

    They may await, so the room lends none of them.
    """

    def __init__(
        self,
        state: RoomState,
        engine: Engine,
        options: RoomOptions,
        *,
        runner: TurnRunner,
        record: RoomRecord,
        note_timer: Callable[[int], None],
    ) -> None:
        """`note_timer` is told when a timer that was set is due."""
        super().__init__(state, engine, options)
        self._runner = runner
        self._record = record
        self._note_timer = note_timer
        self._waiting: list[Waiting] = []
        self._waiting_since = 0.0
        self._tasks = 0
        self._has_failed = False
        self._is_stopping = False

    def is_idle(self) -> bool:
        """See Actor."""
        return super().is_idle() and not self._tasks

    def receive_nowait(self, message: RoomMessage) -> bool:  # noqa: ARG002
        """See Actor: a turn of the application may wait."""
        return False

    async def on_stop(self) -> None:
        """Run `on_close`, unless the code has failed."""
        self._is_stopping = True
        # Those of a batch that took too long.
        has_waiting = bool(self._waiting)
        if self._runner.is_open and not self._has_failed:
            with suppress(Refusal):
                await self._run(TurnKind.CLOSE, lambda actor: actor.on_close())
            # A node that stops closes all its rooms at once, and most have nothing to store.
            if has_waiting or self._runner.has_effect:
                await self._store()
        await super().on_stop()

    async def _open(self) -> None:
        """Make the instance, if there is none."""
        turn = await self._runner.open(self._prepare_open)
        if turn is not None:
            self._wait_for_store(turn, None, _do_nothing)

    async def _prepare_open(self) -> None:
        """Prepare what `on_open` sees, once the room is loaded."""

    async def _run(
        self,
        kind: TurnKind,
        handler: Callable[[RoomActor[Any]], Awaitable[T]],
        message: TurnMessage | None = None,
        finish: Callable[[Sequence[Receipt]], None] | None = None,
    ) -> tuple[T, Turn]:
        """Run a turn, and let it wait to be stored; `message` is answered if that fails, and `finish` called if not."""
        began = trio.current_time()
        outcome = TurnOutcome.FAILED
        try:
            await self._open()
            result, turn = await self._runner.run(handler)
            outcome = TurnOutcome.DONE
        except Refusal:
            outcome = TurnOutcome.REFUSED
            raise
        except EngineUnavailableError:
            outcome = TurnOutcome.UNAVAILABLE
            raise
        except BaseException as error:
            self._has_failed = True
            if isinstance(error, Exception):
                self._record.note_failure(kind, error)
                error.add_note(f"in a turn: {kind}{_name_in(message)}")
            raise
        finally:
            self._record.note_turn(kind, outcome, trio.current_time() - began)
        self._wait_for_store(turn, message, finish or _do_nothing)
        return result, turn

    def _run_nothing(
        self,
        message: TurnMessage | None = None,
        finish: Callable[[Sequence[Receipt]], None] = _do_nothing,
    ) -> None:
        """Let a turn without effect wait in place of one that was refused.

        The refusal rests on the turns before it. It is the answer once those are stored, by a node that still owns the room.
        """
        if self._runner.is_open:
            self._wait_for_store(self._runner.run_nothing(), message, finish)
        else:
            finish(())

    def _wait_for_store(
        self, turn: Turn, message: TurnMessage | None, finish: Callable[[Sequence[Receipt]], None]
    ) -> None:
        if not self._waiting:
            self._waiting_since = trio.current_time()
        refuse = _do_nothing if message is None else partial(self._answer_unavailable, message)
        self._waiting.append(Waiting(turn, finish, refuse))

    async def _store(self) -> None:
        """Store the turns that wait, then let everybody hear of them; if that fails, they are answered `unavailable`."""
        waiting = self._waiting
        try:
            done = await self._write()
        except EngineUnavailableError as error:
            for each in waiting:
                each.refuse(error)
            return
        await self._finish(done)

    async def _write(self) -> list[tuple[Waiting, Sequence[Receipt]]]:
        """Store the turns that wait.

        :raises EngineUnavailableError: if none of them was stored.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        receipts = await self._runner.store()
        return list(zip(waiting, receipts, strict=True))

    async def _finish(self, done: Sequence[tuple[Waiting, Sequence[Receipt]]]) -> None:
        """Deliver what stored turns have said, answer them, and start their timers and tasks.

        The events of neighbouring turns are delivered together, up to a turn that says something to some alone.
        """
        said: list[Receipt] = []
        first = 0
        for number, (waiting, receipts) in enumerate(done, 1):
            said += receipts
            if waiting.turn.private or number == len(done):
                if said and self._engine.feed is None:
                    await self._delivery.deliver(said)
                for each, its_receipts in done[first:number]:
                    self._settle_turn(each, its_receipts)
                said, first = [], number

    def _settle_turn(self, waiting: Waiting, receipts: Sequence[Receipt]) -> None:
        """Do what follows once the events of a turn are delivered."""
        for say in waiting.turn.private:
            self._say_to_some(say, int(waiting.turn.now * 1000))
        waiting.finish(receipts)
        for due_ms in waiting.turn.timers.values():
            if due_ms is not None:
                self._note_timer(due_ms)
        for start in () if self._is_stopping else waiting.turn.tasks:
            self._tasks += 1
            self._context.start_soon(self._run_task, start)

    def _say_to_some(self, say: PrivateSay, time_ms: int) -> None:
        self._say_here(say, time_ms)

    def _say_here(self, say: PrivateSay, time_ms: int) -> None:
        event = Event(say.content, time_ms, None, say.header)
        notice = RoomEvent(self._state.name, self._delivery.position.epoch, event)
        for member in self._state.roster:
            if say.is_for(member.user_id, member.shown.connection):
                reply_to(self._state, member, notice)

    async def _run_task(self, start: TaskStart) -> None:
        try:
            value, error = await start.function(*start.arguments), None
        except Exception as raised:  # noqa: BLE001  # brought to `on_task`
            value, error = None, raised
        self._tasks -= 1
        # One for each task: bounded by what the code starts.
        with suppress(ActorStoppedError):
            self._context.ref.tell_always(TaskEnded(start.name, value, error))

    @abstractmethod
    def _answer_unavailable(self, message: TurnMessage, error: EngineUnavailableError) -> None:
        """Answer a message whose turn could not be stored."""


def _name_in(message: TurnMessage | None) -> str:
    match message:
        case Call(method=name) | GuestRequest(request=CallRequest(method=name)):
            return f" {name}"
        case TimerDue(name) | TaskEnded(name):
            return f" {name}"
        case _:
            return ""
