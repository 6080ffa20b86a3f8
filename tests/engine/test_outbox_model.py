"""The entries that are read balance with a model's book, entry by entry, whatever comes, leaves, dies and restarts.

The model has no book of who is present: it joins the times at which somebody was there into visits, those with a gap
shorter than the hold-back into one, and expects an entry for the beginning and the end of each.
"""

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import attrs
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.config.settings import RedisSettings
from broker.engine.attendance import is_user_place, user_place
from broker.engine.base import Engine
from broker.engine.memory import MemoryEngine
from broker.engine.outbox import Entry, Kind, Queue
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.open import open_redis
from broker.log import stdlib_log
from tests.engine.redis.opened import wait_until
from tests.engine.sqlite_files import KEEP, Wall, copied, draft, opened
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

HELD = Queue("held", frozenset(Kind), hold_back_seconds=5.0)
AT_ONCE = Queue("at once", frozenset(Kind), hold_back_seconds=0.0)
KINDS = {
    "user": (Kind.USER_ONLINE, Kind.USER_OFFLINE),
    "member": (Kind.USER_JOINED, Kind.USER_LEFT),
    "room": (Kind.ROOM_OCCUPIED, Kind.ROOM_VACATED),
}
USERS, ROOMS = ("ann", "bob", "cyd"), ("den", "attic")

Key = tuple[str, str | None, str | None]
"""A key of KINDS, with room and user as in an entry."""


@attrs.define
class Visits:
    """The times at which somebody was there, over all nodes."""

    nodes: set[int] = attrs.Factory(set)
    times: list[list[int]] = attrs.Factory(list)
    """Begin and end in milliseconds; no end for one who is there."""

    def change(self, members: set[int], now_ms: int) -> None:
        if members and not self.nodes:
            self.times.append([now_ms])
        if self.nodes and not members:
            self.times[-1].append(now_ms)
        self.nodes = set(members)

    def expected(self, kinds: tuple[Kind, Kind], hold_back_ms: int) -> list[tuple[Kind, int]]:
        """Return kind and time of each entry, once all that was held back is due."""
        visits: list[list[int]] = []
        for visit in self.times:
            if visits and visit[0] < visits[-1][-1] + hold_back_ms:
                visits[-1][1:] = visit[1:]
            else:
                visits.append(list(visit))
        return [pair for visit in visits for pair in zip(kinds, visit, strict=False)]


@attrs.define
class Model:
    """All that happened."""

    present: dict[str, set[tuple[int, str]]] = attrs.Factory(lambda: defaultdict(set))
    """Node and user of all who are at a place."""
    visits: dict[Key, Visits] = attrs.Factory(lambda: defaultdict(Visits))
    messages: dict[str, list[int]] = attrs.Factory(lambda: defaultdict(list))

    def change(self, node: int, place: str, user: str, now_ms: int, *, is_present: bool) -> None:
        here = self.present[place]
        (here.add if is_present else here.discard)((node, user))
        of_user = {other for other, name in here if name == user}
        if is_user_place(place):
            self.visits["user", None, user].change(of_user, now_ms)
            return
        self.visits["member", place, user].change(of_user, now_ms)
        self.visits["room", place, None].change({other for other, _ in here}, now_ms)

    def leave_all(self, node: int, now_ms: int) -> None:
        for place, here in self.present.items():
            for other, user in sorted(here):
                if other == node:
                    self.change(node, place, user, now_ms, is_present=False)


@attrs.define(eq=False)
class World(ABC):
    """An engine, or several nodes with one, that can be ended in any way."""

    wall: Wall = attrs.Factory(Wall)
    queues: tuple[Queue, ...] = (HELD, AT_ONCE)
    node_count = 1

    @abstractmethod
    def engine(self, node: int) -> Engine:
        """Return the engine of a node."""

    async def kill(self, node: int) -> bool:
        """End a node as kill -9 does, and start it again; returns False if that cannot be done."""
        return False

    async def stop(self) -> None:
        """Stop the engine, whose users have left, and start it again, if it is durable."""
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Memory(World):
    made: Engine | None = None

    def engine(self, node: int) -> Engine:
        if self.made is None:
            self.made = MemoryEngine(wall_clock=self.wall, idempotency_seconds=300.0, queues=self.queues)
        return self.made


@attrs.define(eq=False)
class Sqlite(World):
    directory: Path = Path()
    path: Path = Path()
    stack: AsyncExitStack = attrs.Factory(AsyncExitStack)
    opened: Engine | None = None
    copies: int = 0

    async def open(self, path: Path) -> None:
        self.path = path
        self.opened = await self.stack.enter_async_context(
            opened(path, self.wall, "off", queues=self.queues, witnesses=self.directory)
        )

    def engine(self, node: int) -> Engine:
        assert self.opened is not None
        return self.opened

    async def kill(self, node: int) -> bool:
        self.copies += 1
        copy = copied(self.path, f"copy{self.copies}.db")
        # What the former process writes at its end goes to a file that nobody reads any more.
        await self.stack.aclose()
        await self.open(copy)
        return True

    async def stop(self) -> None:
        await self.stack.aclose()
        await self.open(self.path)


@attrs.define(eq=False)
class Redis(World):
    """Two nodes that die, and one that lives and finds it."""

    server: RedisServer = attrs.field(kw_only=True)
    nursery: trio.Nursery = attrs.field(kw_only=True)
    prefix: str = attrs.Factory(lambda: token_hex(8))
    nodes: dict[int, tuple[RedisEngine, Callable[[], None]]] = attrs.Factory(dict)
    node_count = 2

    async def run(self, *, task_status: trio.TaskStatus[tuple[RedisEngine, Callable[[], None]]]) -> None:
        options = RedisSettings(prefix=self.prefix, probe_seconds=0.05, lease_seconds=0.4)
        with trio.CancelScope() as scope:
            async with open_redis(
                *(self.server.url, options),
                idempotency_seconds=300.0,
                wall_clock=self.wall,
                log=stdlib_log(),
                queues=self.queues,
            ) as engine:
                await engine.wait_ready()
                task_status.started((engine, scope.cancel))
                await trio.sleep_forever()

    async def open(self) -> None:
        for node in range(-1, self.node_count):
            self.nodes[node] = await self.nursery.start(self.run)

    def engine(self, node: int) -> Engine:
        return self.nodes[node][0]

    async def kill(self, node: int) -> bool:
        engine, end = self.nodes[node]
        end()
        self.nodes[node] = await self.nursery.start(self.run)

        async def is_found() -> bool:
            dead = engine._node.encode()
            return dead not in self.server.ask("SMEMBERS", f"{self.prefix}:book:nodes")

        await wait_until(is_found)
        return True


@attrs.define(eq=False)
class Reader:
    """Reads a queue as a delivery does; sometimes what it has read is not removed, and read again."""

    read: list[Entry] = attrs.Factory(list)

    async def take(self, engine: Engine, queue: str, limit: int, *, is_removed: bool) -> bool:
        """Read some entries; returns whether there were any."""
        outbox = engine.outbox
        assert outbox is not None
        [partition] = outbox.partitions
        fence = await outbox.lease(partition, "reader", 600.0)
        assert fence is not None
        entries = await outbox.read(partition, queue, limit=limit)
        known = {entry.id: entry for entry in self.read}
        for entry in entries:
            if entry.id in known:
                assert entry == known[entry.id]
            else:
                self.read.append(entry)
        if is_removed:
            await outbox.remove(partition, queue, [entry.number for entry in entries], fence)
        return bool(entries)

    def check(self, model: Model, queue: Queue) -> None:
        numbers = [entry.number for entry in self.read]
        assert numbers == sorted(set(numbers))
        found: dict[Key, list[tuple[Kind, int]]] = defaultdict(list)
        messages = defaultdict(list)
        for entry in self.read:
            if entry.kind is Kind.MESSAGE:
                messages[entry.room].append(json.loads(bytes(entry.fields))["content"]["n"])
                continue
            [about] = [about for about, kinds in KINDS.items() if entry.kind in kinds]
            found[about, entry.room, entry.user].append((entry.kind, entry.time_ms))
        assert messages == model.messages
        expected = {
            key: visits.expected(KINDS[key[0]], queue.hold_back_ms) for key, visits in model.visits.items()
        }
        assert found == {key: entries for key, entries in expected.items() if entries}


places = st.sampled_from([*ROOMS, *(user_place(user) for user in USERS)])
steps = st.one_of(
    st.tuples(st.just("toggle"), st.integers(0, 1), places, st.sampled_from(USERS)),
    st.tuples(st.just("toggle"), st.integers(0, 1), places, st.sampled_from(USERS)),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 3.0, 4.999, 5.0, 60.0])),
    st.tuples(st.just("say"), st.sampled_from(ROOMS), st.integers(1, 3)),
    st.tuples(st.just("read"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 1)),
    st.tuples(st.just("stop")),
)


@attrs.define(eq=False)
class Play:
    """Makes moves in a world, and keeps the model's book of them."""

    world: World
    most_kills: int = 100
    model: Model = attrs.Factory(Model)
    readers: dict[str, Reader] = attrs.field(init=False)
    said: int = 0

    def __attrs_post_init__(self) -> None:
        self.readers = {queue.name: Reader() for queue in self.world.queues}

    @property
    def now_ms(self) -> int:
        return int(self.world.wall.now * 1000)

    async def written(self) -> None:
        for node in range(self.world.node_count):
            attendance = self.world.engine(node).attendance
            assert attendance is not None
            await attendance.wait_written()

    async def toggle(self, node: int, place: str, user: str) -> None:
        node, user = node % self.world.node_count, place[1:] if is_user_place(place) else user
        attendance = self.world.engine(node).attendance
        assert attendance is not None
        is_present = (node, user) not in self.model.present[place]
        if is_present:
            attendance.came(place, user, None)
        else:
            attendance.left(place, user)
        self.model.change(node, place, user, self.now_ms, is_present=is_present)

    async def tick(self, seconds: float) -> None:
        self.world.wall.now += seconds

    async def say(self, room: str, count: int) -> None:
        drafts = [draft(self.said + each) for each in range(count)]
        self.model.messages[room] += range(self.said, self.said + count)
        self.said += count
        await self.world.engine(self.said % self.world.node_count).append(room, drafts, KEEP)

    async def read(self, limit: int, is_removed: bool) -> None:
        for queue, reader in self.readers.items():
            await reader.take(self.world.engine(0), queue, limit, is_removed=is_removed)

    async def kill(self, node: int) -> None:
        node %= self.world.node_count
        if self.most_kills and await self.world.kill(node):
            self.most_kills -= 1
            self.model.leave_all(node, self.now_ms)

    async def stop(self) -> None:
        for place, here in self.model.present.items():
            for node, user in sorted(here):
                await self.toggle(node, place, user)
        await self.written()
        await self.world.stop()

    async def run(self, moves: list[tuple]) -> None:
        """Make all moves, then wait until everything is due, and compare the books."""
        for name, *arguments in moves:
            await getattr(self, name)(*arguments)
            await self.written()
        self.world.wall.now += 60.0
        for queue in self.world.queues:
            reader = self.readers[queue.name]
            while await reader.take(self.world.engine(0), queue.name, 100, is_removed=True):
                pass
            reader.check(self.model, queue)


@settings(max_examples=50)
@given(st.lists(steps, max_size=40))
async def test_in_memory(moves: list[tuple]) -> None:
    await Play(Memory()).run(moves)


@settings(max_examples=15, deadline=None)
@given(st.lists(steps, max_size=25))
async def test_in_sqlite(moves: list[tuple]) -> None:
    with TemporaryDirectory() as directory:
        world = Sqlite(directory=Path(directory))
        async with world.stack:
            await world.open(Path(directory) / "rooms.db")
            await Play(world).run(moves)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25))
async def test_over_nodes_with_redis(shared_redis: RedisServer, moves: list[tuple]) -> None:
    """A node that is late for its lease leaves and comes back at once, which the hold-back hides."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            world = Redis(queues=(HELD,), server=shared_redis, nursery=nursery)
            await world.open()
            await Play(world, most_kills=2).run(moves)
            nursery.cancel_scope.cancel()
