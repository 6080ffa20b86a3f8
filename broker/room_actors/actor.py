"""The base class of rooms that applications write."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from broker.log import Log
from broker.room_actors.turn import Recipient, Turn
from broker.room_actors.values import Member, Message, Refusal, Task, Timer

S = TypeVar("S")


class RoomView(Protocol):
    """The part of a room that its code may see."""

    @property
    def name(self) -> str:
        """The room's name."""
        ...

    @property
    def log(self) -> Log:
        """The server's log, with the room's name in each line."""
        ...

    @property
    def turn(self) -> Turn:
        """The present turn.

        :raises RuntimeError: if there is none.
        """
        ...

    @property
    def timers(self) -> Mapping[str, int]:
        """The stored timers, with those of the present turn."""
        ...

    def members(self) -> Sequence[Member]:
        """Return the present members."""
        ...


class RoomActor(Generic[S]):
    """A room: subclass it with the type of its state and a pattern of names, `RoomActor[State], pattern="quiz.*"`.

    Its methods are turns, one at a time; messages wait meanwhile. Whatever a turn changes in `state`, sets as timers and
    says is stored together when it returns, and only then anybody hears of it. If a turn raises, or takes longer than
    `turn_seconds`, it has not happened: the requester gets an `error` and the room is started again with the stored
    state; a `Refusal` refuses the request and is no failure. If the engine cannot store it, the requester is told
    `unavailable`.

    Attributes of the instance other than `state` are lost when the room passivates, fails, or cannot be stored.
    """

    state: S
    """A msgspec.Struct, attrs class or dataclass that is made without arguments, at most `limits.room_state_bytes` as JSON."""

    patterns: ClassVar[tuple[str, ...]] = ()
    """The names of its rooms: names, or patterns as in room rules."""
    state_version: ClassVar[int] = 1
    """Raise it when the state's type changes so that the stored one cannot be read; `migrate` then gets that."""
    state_name: ClassVar[str]
    """The class's name in the store, by default that of the class; keep it when the class is renamed."""
    turn_seconds: ClassVar[float] = 5.0
    """Longest time of a turn."""

    room_view: RoomView
    """For the server, which sets it before it calls anything."""

    def __init_subclass__(cls, *, pattern: str | Iterable[str] = (), **others: Any) -> None:
        super().__init_subclass__(**others)
        if patterns := (pattern,) if isinstance(pattern, str) else tuple(pattern):
            cls.patterns = patterns
        if "state_name" not in vars(cls):
            cls.state_name = cls.__qualname__

    @classmethod
    def migrate(cls, state: Any, version: int) -> Any:
        """Return a state that an earlier version stored, as the present one; JSON values both, or the state itself.

        :raises Exception: if it cannot be read: the room cannot be used until the code can.
        """
        raise NotImplementedError(f"no migration from version {version}")

    async def on_open(self) -> None:
        """Begin: the state is there. Nobody is present: `on_leave` was not called for those in the room at a crash."""

    async def on_join(self, member: Member) -> None:
        """Let a member in, or raise a `Refusal`. It is in `members` from the next turn on, and gets what this turn says.

        Not called for a member that joins again, nor for services that only listen.
        """

    async def on_message(self, sender: Member | None, message: Message) -> Message | None:  # noqa: ARG002
        """Return the message, or another one, to publish it, before what this turn says; None does not publish it.

        `sender` is None for a service. A repetition with the same id is answered and not brought here again.
        """
        return message

    async def on_call(self, sender: Member | None, method: str, data: msgspec.Raw | None) -> Any:  # noqa: ARG002
        """Answer a call of a method that is not marked by `call`; by default it is refused."""
        raise Refusal(f"method: this room has no {method!r}", code="invalid_message")

    async def on_leave(self, member: Member) -> None:
        """Note that a member has left, was removed, or has lost its connection. A Refusal has no effect."""

    async def on_timer(self, timer: Timer) -> None:
        """Handle a timer that is due. If the turn fails, the timer is tried again, later each time."""

    async def on_task(self, task: Task) -> None:
        """Take the result of a task of `spawn`, or its exception; by default an exception is logged."""
        if task.error is not None:
            self.log.exception("task of a room failed", task=task.name, exc_info=task.error)

    async def on_close(self) -> None:
        """End: the room passivates, or the server stops. Not called if the process is killed."""

    @property
    def name(self) -> str:
        """The room's name."""
        return self.room_view.name

    @property
    def log(self) -> Log:
        """The server's log; each line has the room's name. Lines of a turn stay when the turn fails."""
        return self.room_view.log

    @property
    def now(self) -> float:
        """The start of this turn in Unix seconds."""
        return self.room_view.turn.now

    @property
    def members(self) -> Sequence[Member]:
        """The connections in the room, in the order of their joins; a user may have several."""
        return self.room_view.members()

    @property
    def timers(self) -> Mapping[str, float]:
        """The timers that are set: their names, and in how many seconds each is due."""
        now_ms = self.room_view.turn.now_ms
        return {name: (due_ms - now_ms) / 1000 for name, due_ms in self.room_view.timers.items()}

    def say(
        self,
        message: Mapping[str, object] | msgspec.Struct,
        *,
        to: Recipient | Iterable[Recipient] | None = None,
        but: Recipient | Iterable[Recipient] | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Say a message with a `type` of its own to all members; it is stored with the turn.

        Recipients are members, which are one connection each, and users, given by their ids; one or several. With `but`,
        to all but these (up to 256), whether they are present or not. With `to`, only to these: at most once, in no
        history. `ephemeral`: to all, in no history. `tags` are for members that joined with a filter.

        :raises ValueError: if the message has no such type, or some clients could not read it, or `but` has too many.
        :raises TypeError: if it has no JSON form.
        """
        self.room_view.turn.say(message, to=to, but=but, ephemeral=ephemeral, tags=tags)

    def set_timer(self, name: str, after_seconds: float) -> None:
        """Have `on_timer` called after a time, once; a timer of the same name is replaced. It outlives the process."""
        if not 0 <= after_seconds <= MAX_TIMER_SECONDS:
            raise ValueError(f"after_seconds: 0 to {MAX_TIMER_SECONDS:g}")
        if len(name.encode()) > MAX_TIMER_NAME_BYTES:
            raise ValueError(f"the name of a timer has at most {MAX_TIMER_NAME_BYTES} bytes of UTF-8")
        turn = self.room_view.turn
        if name not in self.room_view.timers and len(self.room_view.timers) >= MAX_TIMERS:
            raise ValueError(f"a room has at most {MAX_TIMERS} timers")
        turn.timers[name] = turn.now_ms + round(after_seconds * 1000)

    def cancel_timer(self, name: str) -> None:
        """Remove a timer, if it is set."""
        if name in self.room_view.timers:
            self.room_view.turn.timers[name] = None

    def spawn(self, name: str, function: Callable[..., Awaitable[Any]], *arguments: object) -> None:
        """Run an async function beside the room, once this turn is stored; its end comes to `on_task`.

        It is cancelled, without a further turn, when the room fails or passivates, or the server stops. What must not be
        lost is noted in the state, with a timer. It gets what it needs of the state as arguments, and leaves `self.state`
        alone: turns run meanwhile, and what it changed would be stored with one of them, or lost. Tasks of one name run
        side by side.

        :raises TypeError: if it is no async function.
        """
        if not is_async_function(function):
            raise TypeError(
                f"spawn({name!r}, …): takes an async function and its arguments, spawn(name, function, *arguments);"
                f" {function!r} is none"
            )
        self.room_view.turn.start_task(name, function, arguments)


def is_async_function(function: Any) -> bool:
    """Whether a call of it returns a coroutine, also where it is wrapped, bound, or an object that is called."""
    called = getattr(type(function), "__call__", None)  # noqa: B004  # that of an object is async if this is
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(called)


MAX_TIMER_NAME_BYTES = 512
MAX_TIMERS = 1000
"""Timers of one room."""
MAX_TIMER_SECONDS = 100 * 366 * 86_400.0
"""About a century: beyond any use, and far from the end of a 64-bit number of milliseconds."""
