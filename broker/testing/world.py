"""A whole broker in memory on virtual time, for tests of rooms with code and of what goes on in rooms: no port, no sleep."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import jwt
import msgspec
import trio
from msgspec import UNSET
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection, wrap_client_stream

from actors import ActorError, Reply
from broker.assembly import Assembly
from broker.config.settings import Settings
from broker.engine.memory import MemoryEngine
from broker.errors import GreenroomError
from broker.hooks.own import Hook
from broker.log import Log, stdlib_log
from broker.model import Draft, IdempotencyKey
from broker.protocol.content import notifier_content
from broker.room_actors.actor import RoomActor
from broker.rooms.messages import Inspect, RoomInfo, RoomMessage, TaskEnded
from broker.testing.faulty_engine import FaultyEngine, RoomCrashError
from broker.testing.line import Line
from broker.testing.loops import BrokerLoop, LoopInThread, LoopOfTest, in_broker
from broker.testing.node import MemoryNode, open_memory_node
from broker.testing.running import for_tests
from broker.testing.threads import open_in_thread
from broker.testing.visitor import RefusedError, Visitor

__all__ = ["BEGIN", "RefusedError", "Visitor", "World", "open_test_broker", "open_test_broker_in_thread"]

BEGIN = 1_800_000_000.0
"""Unix seconds at the beginning of each world, so that tests see the same times in each run."""

TOKEN_SECONDS = 86_400.0 * 365


class _CrashingReply(Reply[RoomInfo]):
    """Lets the room that answers crash."""

    def set(self, value: RoomInfo) -> bool:  # noqa: ARG002
        raise RoomCrashError


@attrs.define(eq=False)
class World:
    """A broker with rooms, and the test's connections to it; made by `open_test_broker`.

    Each of its methods returns once nothing more happens without the test, so that `heard` and states are settled.
    Between them no time passes.
    """

    settings: Settings
    _classes: Sequence[type[RoomActor[Any]]]
    _hooks: Sequence[Hook]
    _log: Log
    _nursery: trio.Nursery
    _clock: trio.abc.Clock = attrs.Factory(trio.lowlevel.current_clock)
    broker_loop: BrokerLoop = attrs.Factory(LoopOfTest)
    _ids: "count[int]" = attrs.Factory(lambda: count(1))
    _began: float = attrs.field(init=False)
    _engine: FaultyEngine = attrs.field(init=False)
    _running: trio.CancelScope = attrs.field(init=False)
    _ended: trio.Event = attrs.field(init=False)
    _node: MemoryNode = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._clock.current_time()
        self._engine = FaultyEngine(
            MemoryEngine(
                wall_clock=self.now,
                boot_clock=self.now,
                log=self._log,
                idempotency_seconds=self.settings.history.idempotency_seconds,
            )
        )

    def now(self) -> float:
        """Return the virtual time in Unix seconds; it begins with BEGIN."""
        return BEGIN + self._clock.current_time() - self._began

    def token(self, user: str, **claims: Any) -> str:
        """Return a token of a user, which holds for a year of virtual time."""
        claims = {"sub": user, "exp": self.now() + TOKEN_SECONDS, **claims}
        return jwt.encode(claims, self.settings.auth.secret or "", algorithm="HS256")

    @in_broker
    async def join(self, /, room: str, *, user: str, **claims: Any) -> Visitor:
        """Connect as a user to a room; `claims` are those of its token (`info`, `rooms`, `can`, …).

        :raises ConnectionError: if the join is refused; the text has the close code and the reason.
        """
        visitor = Visitor(
            user, room, claims=claims, open=self._open_line, broker_loop=self.broker_loop, ids=self._ids
        )
        await visitor.connect()
        return visitor

    async def _open_line(self, visitor: Visitor) -> tuple[Line, WebSocketConnection]:
        query = {"token": self.token(visitor.user_id, **visitor.claims)}
        if visitor.position is not None:
            query |= {"offset": str(visitor.position.offset), "epoch": visitor.position.epoch}
        line = self._node.connect()
        socket = await wrap_client_stream(
            self._nursery,
            line.client_end,  # type: ignore[arg-type]  # any stream does
            "broker.test",
            f"/ws/{quote(visitor.room, safe='')}?{urlencode(query)}",
            message_queue_size=100_000,
        )
        self._nursery.start_soon(visitor.read, socket)
        return line, socket

    @in_broker
    async def publish(
        self, room: str, message: Mapping[str, object], *, request_id: str | None = None
    ) -> None:
        """Publish a message in a room, as a service does.

        :raises Refused: if the room's code refuses it.
        """
        content, header = notifier_content(msgspec.json.encode(message))
        key = None if request_id is None else IdempotencyKey("http", request_id)
        await self._assembly.http.rooms.publish(room, Draft(content, False, key, header))
        await wait_all_tasks_blocked()

    @in_broker
    async def call(
        self, room: str, method: str, data: object = UNSET, *, request_id: str | None = None
    ) -> Any:
        """Call a method of a room, as a service does; returns its result.

        :raises Refused: if the room's code refuses it, or fails.
        """
        key = None if request_id is None else IdempotencyKey("http", request_id)
        argument = None if data is UNSET else msgspec.json.encode(data)
        content = await self._assembly.http.rooms.call(room, method, argument, key)
        await wait_all_tasks_blocked()
        return msgspec.json.decode(content)

    @in_broker
    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass; timers and timeouts of it fire in their order."""
        await trio.sleep(seconds)
        await wait_all_tasks_blocked()

    @property
    def _assembly(self) -> Assembly:
        return self._node.assembly

    def rooms_in_memory(self) -> list[str]:
        """Return the names of the rooms that are in memory, sorted."""
        return [info.room for info in self._assembly.http.rooms.list_here(limit=1_000_000)]

    @in_broker
    async def state(self, room: str) -> Any:
        """Return the stored state of a room as JSON values; None if it has none.

        :raises LookupError: if no class is for the room.
        """
        if not self._assembly.http.rooms.has_code(room):
            raise LookupError(f"no class is for room {room!r}")
        stored = (await self._engine.room_store.load(room)).state
        return None if stored is None else msgspec.json.decode(stored.content)

    @contextmanager
    def engine_unavailable(self) -> Iterator[None]:
        """Let the engine refuse to read and to store within the block."""
        self._engine.is_unavailable = True
        try:
            yield
        finally:
            self._engine.is_unavailable = False

    @in_broker
    async def crash(self, room: str) -> None:
        """Let a room fail, as by a fault in its code: it is started again with what is stored, and its members stay.

        One that fails more than five times within ten seconds is given up: its members are disconnected with 1011.

        :raises LookupError: if it is not in memory, so that nothing of it can fail.
        """
        if room not in self.rooms_in_memory():
            raise LookupError(
                f"room {room!r} is not in memory: nobody has joined or called it, or it has passivated"
            )
        if self._assembly.http.rooms.has_code(room):
            # A turn that fails before any code has run.
            with self._engine.failing_turn():
                await self._crash_by(room, TaskEnded("", None, None))
        else:
            await self._crash_by(room, Inspect(_CrashingReply()))

    async def _crash_by(self, room: str, message: RoomMessage) -> None:
        await self._assembly.http.rooms.tell(room, message)
        # Answered once it is up again, or given up.
        with suppress(GreenroomError, ActorError):
            await self._assembly.http.rooms.inspect(room)
        await wait_all_tasks_blocked()

    @in_broker
    async def kill(self) -> None:
        """End the server at once, as `kill -9` would: no drain, no `on_leave`, no `on_close`; what was stored stays."""
        self._engine.is_unavailable = True
        self._running.cancel()
        await self._ended.wait()
        self._engine.is_unavailable = False
        await wait_all_tasks_blocked()

    @in_broker
    async def start(self, rooms: Sequence[type[RoomActor[Any]]] | None = None) -> None:
        """Start the server again after `kill`; with `rooms`, with other classes, such as the next version of them."""
        if rooms is not None:
            self._classes = rooms
        await self.run()

    async def run(self) -> None:
        """Start the server; `open_test_broker` calls it."""
        self._ended = trio.Event()
        await self._nursery.start(self._run_node)

    async def _run_node(self, *, task_status: trio.TaskStatus[None]) -> None:
        opening = open_memory_node(
            self.settings,
            log=self._log,
            engine=self._engine,
            wall_clock=self.now,
            boot_clock=self.now,
            rooms=self._classes,
            hooks=self._hooks,
            random=Random(0),  # noqa: S311  # the same in each run
        )
        with trio.CancelScope() as self._running:
            async with opening as self._node:
                task_status.started()
                await trio.sleep_forever()
        self._ended.set()


@asynccontextmanager
async def open_test_broker(
    rooms: Sequence[type[RoomActor[Any]]] = (),
    *,
    settings: Settings | None = None,
    hooks: Sequence[Hook] = (),
    log: Log | None = None,
) -> AsyncIterator[World]:
    """Open a broker in memory, with classes of rooms, and hooks as those of `open_broker`.

    Under trio it runs in the loop of the test, which has virtual time: `trio.testing.MockClock(autojump_threshold=0)`.
    Under asyncio it runs in a thread, with virtual time of its own, see `open_test_broker_in_thread`.

    :raises ConfigurationError: if a class cannot be used.
    :raises RuntimeError: under trio with another clock: timers and timeouts would take their real time.
    """
    if not trio.lowlevel.in_trio_run():
        with open_test_broker_in_thread(rooms, settings=settings, hooks=hooks, log=log) as world:
            yield world
        return
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        raise RuntimeError(  # noqa: TRY004  # of the run, and of no argument
            "open_test_broker needs virtual time: pytest-trio's fixture `autojump_clock` as an argument of the test, or"
            " trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))"
        )
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            world = World(for_tests(settings or Settings()), rooms, hooks, log or stdlib_log(), nursery)
            try:
                await world.run()
                yield world
            except BaseException as error:
                # Shown by itself, and not within groups.
                failure = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        if failure is None:
            raise
    if failure is not None:
        raise failure


@contextmanager
def open_test_broker_in_thread(
    rooms: Sequence[type[RoomActor[Any]]] = (),
    *,
    settings: Settings | None = None,
    hooks: Sequence[Hook] = (),
    log: Log | None = None,
) -> Iterator[World]:
    """Open a broker in memory in a thread, in trio on a virtual clock; the test may run asyncio, or trio on any clock.

    The parameters are those of `open_test_broker`. The methods of the world and of its visitors are awaited as usual.
    Only while one of them runs, virtual time can pass.
    """

    @asynccontextmanager
    async def opening() -> AsyncIterator[World]:
        opened = open_test_broker(rooms, settings=settings, hooks=hooks, log=log)
        async with opened as world, trio.open_nursery() as nursery:
            loop = world.broker_loop = LoopInThread(nursery)
            yield world
            nursery.cancel_scope.cancel()
            loop.end()

    with open_in_thread(opening, make_clock=partial(MockClock, autojump_threshold=0)) as world:
        yield world
