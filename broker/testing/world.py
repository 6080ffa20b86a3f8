"""A whole broker in memory on trio's virtual clock, for tests of rooms with code: no port, no sleep, no thread."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from random import Random
from typing import Any
from urllib.parse import quote

import attrs
import jwt
import msgspec
import trio
from msgspec import UNSET
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from broker.assembly import Assembly, open_assembly
from broker.config.settings import Settings
from broker.engine.memory import MemoryEngine
from broker.errors import GreenroomError
from broker.log import Log, stdlib_log
from broker.model import Draft, IdempotencyKey
from broker.protocol.content import notifier_content
from broker.room_actors.actor import RoomActor
from broker.testing.faulty_engine import FaultyEngine
from broker.testing.running import for_tests
from broker.transport.admission import Admission, admission_limits
from broker.transport.byte_stream import MemoryByteStream
from broker.transport.port import Port
from broker.transport.streams import ReplayStream
from broker.wakeup import Wakeup

BEGIN = 1_800_000_000.0
"""Unix seconds at the beginning of each world, so that tests see the same times in each run."""


TOKEN_SECONDS = 86_400.0 * 365


class RefusedError(GreenroomError):
    """A request of a member was answered with an `error`."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__(f"{message['code']}: {message['message']}")
        self.code: str = message["code"]
        self.retry_after_ms: int | None = message.get("retry_after_ms")


@attrs.define(eq=False)
class Visitor:
    """A connection of the test, over WebSocket frames in memory; it is in one room."""

    user_id: str
    room: str
    heard: list[dict[str, Any]] = attrs.Factory(list)
    """All messages from the room and the server, the oldest first; answers to requests are not among them."""
    closed_with: int | None = None
    """The close code, once the connection has ended."""
    _socket: WebSocketConnection = attrs.field(kw_only=True)
    _stream: trio.StapledStream[Any, Any] = attrs.field(kw_only=True)
    _answers: dict[str, dict[str, Any]] = attrs.Factory(dict)
    _ids: "count[int]" = attrs.field(kw_only=True)
    _has_read: Wakeup = attrs.Factory(Wakeup)

    async def call(self, method: str, data: object = UNSET, *, request_id: str | None = None) -> Any:
        """Call a method of the room's code; returns its result.

        :raises RefusedError: if it is answered with an error.
        """
        message: dict[str, Any] = {"type": "call", "method": method}
        if data is not UNSET:
            message["data"] = data
        return (await self._ask(message, request_id)).get("data")

    async def chat(self, text: str, *, request_id: str | None = None) -> dict[str, Any]:
        """Send a chat; returns its `ack`.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask({"type": "chat", "text": text}, request_id)

    async def publish(
        self, event: str, data: object, *, request_id: str | None = None, ephemeral: bool = False
    ) -> dict[str, Any]:
        """Publish an event of its own; returns its `ack`.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask(
            {"type": "publish", "event": event, "data": data, "ephemeral": ephemeral}, request_id
        )

    async def ask(self, **message: object) -> dict[str, Any]:
        """Send any request, in its room if it names none; returns its answer.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask(message, None)

    async def leave(self) -> None:
        """Leave the room; the connection stays."""
        await self._ask({"type": "leave"}, None)

    async def drop(self) -> None:
        """Lose the connection, as when a network or a phone goes away."""
        await trio.aclose_forcefully(self._stream)
        await wait_all_tasks_blocked()

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        """Return the messages of a type that were heard."""
        return [message for message in self.heard if message["type"] == type_]

    async def _ask(self, message: dict[str, Any], request_id: str | None) -> dict[str, Any]:
        request_id = request_id or f"request {next(self._ids)}"
        self._answers.pop(request_id, None)
        await self._socket.send_message(
            msgspec.json.encode({"room": self.room, **message, "id": request_id}).decode()
        )
        while request_id not in self._answers:
            if self.closed_with is not None:
                raise ConnectionError(f"{self.user_id} was closed with {self.closed_with}")
            await self._has_read.wait()
        await wait_all_tasks_blocked()
        answer = self._answers[request_id]
        if answer["type"] == "error":
            raise RefusedError(answer)
        return answer

    async def wait_joined(self) -> None:
        """Wait for `joined`, or for the end of the connection."""
        while not self.heard and self.closed_with is None:
            await self._has_read.wait()
        await wait_all_tasks_blocked()

    async def read(self) -> None:
        """Read until the connection ends; the world runs it."""
        try:
            while True:
                message = msgspec.json.decode(await self._socket.get_message())
                if "id" in message:
                    self._answers[message["id"]] = message
                else:
                    self.heard.append(message)
                self._has_read.set()
        except ConnectionClosed as closed:
            self.closed_with = 1006 if closed.reason is None else closed.reason.code
            self._has_read.set()


@attrs.define(eq=False)
class World:
    """A broker with rooms, and the test's connections to it; made by `open_test_broker`.

    Each of its methods returns once nothing more happens without the test, so that `heard` and states are settled.
    """

    settings: Settings
    _classes: Sequence[type[RoomActor[Any]]]
    _log: Log
    _nursery: trio.Nursery
    _began: float
    _ids: "count[int]" = attrs.Factory(lambda: count(1))
    _engine: FaultyEngine = attrs.field(init=False)
    _assembly: Assembly = attrs.field(init=False)
    _node: trio.CancelScope = attrs.field(init=False)
    _node_ended: trio.Event = attrs.field(init=False)
    _port: Port = attrs.field(init=False)
    _serving: trio.Nursery = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
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
        return BEGIN + trio.current_time() - self._began

    async def join(self, room: str, *, user: str, **claims: Any) -> Visitor:
        """Connect as a user to a room; `claims` are those of its token (`info`, `rooms`, `can`, …).

        :raises ConnectionError: if the join is refused; the text has the close code and the reason.
        """
        claims = {"sub": user, "exp": self.now() + TOKEN_SECONDS, **claims}
        token = jwt.encode(claims, self.settings.auth.secret or "", algorithm="HS256")
        ours, theirs = memory_stream_pair()
        self._serving.start_soon(self._port.serve_stream, MemoryByteStream(theirs, "127.0.0.1"))
        socket = await wrap_client_stream(
            self._nursery,
            ours,  # type: ignore[arg-type]  # any stream does
            "broker.test",
            f"/ws/{quote(room, safe='')}?token={token}",
            message_queue_size=100_000,
        )
        visitor = Visitor(user, room, socket=socket, stream=ours, ids=self._ids)
        self._nursery.start_soon(visitor.read)
        await wait_all_tasks_blocked()
        await visitor.wait_joined()
        if visitor.closed_with is not None:
            reason = None if socket.closed is None else socket.closed.reason
            raise ConnectionError(f"{visitor.closed_with} {reason}")
        return visitor

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

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass; timers and timeouts of it fire in their order."""
        await trio.sleep(seconds)
        await wait_all_tasks_blocked()

    def rooms_in_memory(self) -> list[str]:
        """Return the names of the rooms that are in memory, sorted."""
        return [info.room for info in self._assembly.http.rooms.list_here(limit=1_000_000)]

    async def state(self, room: str) -> Any:
        """Return the stored state of a room as JSON values; None if it has none."""
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

    async def kill(self) -> None:
        """End the server at once, as `kill -9` would: no drain, no `on_leave`, no `on_close`; what was stored stays."""
        self._engine.is_unavailable = True
        self._node.cancel()
        await self._node_ended.wait()
        self._engine.is_unavailable = False
        await wait_all_tasks_blocked()

    async def start(self, rooms: Sequence[type[RoomActor[Any]]] | None = None) -> None:
        """Start the server again after `kill`; with `rooms`, with other classes, such as the next version of them."""
        if rooms is not None:
            self._classes = rooms
        self._node_ended = trio.Event()
        await self._nursery.start(self._run_node)

    async def _run_node(self, *, task_status: trio.TaskStatus[None]) -> None:
        opening = open_assembly(
            self.settings,
            log=self._log,
            engine=self._engine,
            wall_clock=self.now,
            boot_clock=self.now,
            rooms=self._classes,
            random=Random(0),  # noqa: S311  # the same in each run
        )
        with trio.CancelScope() as self._node:
            async with opening as self._assembly, trio.open_nursery() as self._serving:
                admission = Admission(*admission_limits(self.settings.limits, trio.current_time()))
                self._port = Port(self._assembly.services, admission, self.settings.http, _no_http)
                task_status.started()
                await trio.sleep_forever()
        self._node_ended.set()


@asynccontextmanager
async def open_test_broker(
    rooms: Sequence[type[RoomActor[Any]]] = (), *, settings: Settings | None = None, log: Log | None = None
) -> AsyncIterator[World]:
    """Open a broker in memory, with classes of rooms; use it under `trio.testing.MockClock(autojump_threshold=0)`.

    :raises ConfigurationError: if a class cannot be used.
    :raises RuntimeError: under another clock: timers and timeouts would take their real time.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        raise RuntimeError(  # noqa: TRY004  # of the run, and of no argument
            "open_test_broker needs virtual time: pytest-trio's fixture `autojump_clock` as an argument of the test, or"
            " trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))"
        )
    complete = for_tests(settings or Settings())
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            world = World(complete, rooms, log or stdlib_log(), nursery, trio.current_time())
            await world.start()
            try:
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


async def _no_http(stream: ReplayStream) -> None:
    await stream.aclose()
