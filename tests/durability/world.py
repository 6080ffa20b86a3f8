"""A whole server in process, its clients, and a record of what they were told; restarted on the same file."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby, pairwise

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from actors import Reply, RestartPolicy
from broker.assembly import open_engine_and_rooms
from broker.config.settings import Settings
from broker.engine.base import Engine, Receipt, Retention, Run
from broker.engine.open import open_engine
from broker.log import stdlib_log
from broker.model import Draft, Event, IdempotencyKey, Position
from broker.notices import Acknowledged, Failed, Gap, Joined, Left, RoomEvent
from broker.rooms.directory import Rooms
from broker.rooms.frame import RoomFrame
from broker.rooms.messages import Join, Leave, Publish, RoomMessage
from broker.wakeup import Wakeup
from tests.support.members import NoticesCodec, Person, RecordingOutbox

BEGIN = 1_700_000_000.0
"""Unix seconds at trio time 0."""


class BrokenError(Exception):
    """The failure of members and the engine here."""


class GapOutbox(RecordingOutbox):
    """Tells of stored events in a refused frame, as an outbox that has space again."""

    def hold(self, frame: RoomFrame) -> int:
        if frame.offsets is not None:
            self.note((Gap(frame.source.room, *frame.offsets),))
        return len(frame.notices)


def new_connection(user_id: str, codec: NoticesCodec) -> Person:
    return Person(user_id, outbox=GapOutbox(codec))


class FaultyEngine(Engine):
    """Passes calls on; its next append may fail, before or after it is done. Knows whether it is at work."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self._calls = 0
        self._quiet = Wakeup()

    async def settle(self) -> None:
        """Wait until nothing goes on, in trio or in a thread."""
        await wait_all_tasks_blocked()
        while self._calls:
            await self._quiet.wait()
            await wait_all_tasks_blocked()

    async def position(self, room: str) -> Position:
        with self:
            return await self._inner.position(room)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        with self:
            if self.before:
                raise self.before.pop()
            receipts = await self._inner.append(room, drafts, retention)
            if self.after:
                raise self.after.pop()
            return receipts

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        with self:
            return await self._inner.read(room, after=after, limit=limit, reverse=reverse)

    async def clear(self, room: str) -> int:
        with self:
            return await self._inner.clear(room)

    async def wait_ready(self) -> None:
        await self._inner.wait_ready()

    def __enter__(self) -> None:
        self._calls += 1

    def __exit__(self, *_failure: object) -> None:
        self._calls -= 1
        self._quiet.set()


@attrs.define
class Record:
    """Everything that clients and the history have shown, which must never contradict itself."""

    events: dict[tuple[str, str, int], Event] = attrs.Factory(dict)
    """By room, epoch and offset."""
    acknowledged: dict[tuple[str, str, int], str] = attrs.Factory(dict)
    """What each acknowledged text must begin with, by the same."""
    held: dict[str, Run] = attrs.Factory(dict)
    """What each room's history was when last looked at."""
    not_recovered: list[tuple[str, Position]] = attrs.Factory(list)
    """What clients came back with and were told that it is no longer all held; seen at the next look."""

    def note_event(self, room: str, epoch: str, event: Event) -> None:
        assert event.offset is not None
        assert self.events.setdefault((room, epoch, event.offset), event) == event

    def note_history(self, room: str, run: Run, retention: Retention) -> None:
        """Check that a history is a run, kept up to the retention and no shorter, and holds what it should."""
        epoch, offset = run.position.epoch, run.position.offset
        assert [event.offset for event in run.events] == list(range(run.first_held, offset + 1))
        for event in run.events:
            self.note_event(room, epoch, event)
        for name, since in self.not_recovered:
            if name == room and since.epoch == epoch:
                # What was trimmed then is trimmed now.
                assert since.offset + 1 < run.first_held, "it could have been told all"
        self.not_recovered = [doubt for doubt in self.not_recovered if doubt[0] != room]
        sizes = [len(event.content) for event in run.events]
        assert len(sizes) <= retention.messages
        assert sum(sizes) <= retention.bytes
        trimmed = self.events.get((room, epoch, run.first_held - 1))
        if trimmed is not None:
            assert len(sizes) == retention.messages or sum(sizes) + len(trimmed.content) > retention.bytes
        before = self.held.get(room)
        if before is not None and before.position.epoch == epoch:
            assert before.position.offset <= offset
            assert before.first_held <= run.first_held
        self.held[room] = run
        for (where, since, place), beginning in self.acknowledged.items():
            if (where, since) == (room, epoch) and place >= run.first_held:
                assert place <= offset, "acknowledged and not stored"
                assert self.events[where, since, place].content.decode().startswith(beginning)

    def check_ids(self, window_seconds: float) -> None:
        """No id was stored twice within the window in one epoch."""

        def name(item: tuple[tuple[str, str, int], Event]) -> tuple[str, str, str, str]:
            (room, epoch, _), event = item
            user, request_id, _ = event.content.decode().split(" ")
            return room, epoch, user, request_id

        for (*_, request_id), same in groupby(sorted(self.events.items(), key=name), name):
            times = sorted(event.time_ms for _, event in same)
            if request_id != "None":
                assert all(later - sooner >= window_seconds * 1000 for sooner, later in pairwise(times))


@attrs.define(eq=False)
class Client:
    """A user who reconnects with what it has seen, and resends what it has no answer for."""

    user_id: str
    record: Record
    connection: Person
    seen: dict[str, Position] = attrs.Factory(dict)
    present: dict[str, Position | None] = attrs.Factory(dict)
    """The rooms it is in, with the `since` of its join."""
    unanswered: dict[tuple[str, int], None] = attrs.Factory(dict)
    said: int = 0
    _taken: int = 0

    def reconnect(self) -> None:
        self.connection = new_connection(self.user_id, self.connection.outbox.codec)
        self.present = {}
        self._taken = 0

    def join(self, room: str, *, forgets: bool) -> Join:
        since = None if forgets else self.seen.get(room)
        self.present[room] = since
        return Join(self.connection, since, None, Reply())

    def publish(self, room: str, request_id: int | None) -> Publish:
        """Return a publish; the same id is always with the same text."""
        self.said += 1
        padding = self.said if request_id is None else "x" * (10 * request_id)
        draft = f"{self.user_id} {request_id} {padding}".encode()
        if request_id is None:
            return Publish(Draft(draft), self.connection, None)
        self.unanswered[room, request_id] = None
        key = IdempotencyKey(f"user {self.user_id}", str(request_id))
        return Publish(Draft(draft, key=key), self.connection, request_id)

    def take(self) -> None:
        """Take in what it has heard: a run without gap or repeat in each room, or it was told so."""
        notices = self.connection.heard[self._taken :]
        self._taken += len(notices)
        for notice in notices:
            match notice:
                case Joined():
                    self._take_joined(notice)
                case RoomEvent(room, epoch, event):
                    self.record.note_event(room, epoch, event)
                    assert Position(epoch, event.offset or 0) == self._next(room), "missing or repeated"
                    self.seen[room] = self._next(room)
                case Gap(room, first, last):
                    assert first == self._next(room).offset
                    self.seen[room] = Position(self.seen[room].epoch, last)
                case Left(room):
                    self.present.pop(room, None)
                case Acknowledged(room, position, request_id):
                    assert position is not None
                    assert isinstance(request_id, int)
                    place = (room, position.epoch, position.offset)
                    self.record.acknowledged[place] = f"{self.user_id} {request_id} "
                    self.unanswered.pop((room, request_id), None)
                case Failed(_, request_id):
                    assert request_id is None or request_id in [other for _, other in self.unanswered]

    def _next(self, room: str) -> Position:
        assert room in self.present, "told of a room it is not in"
        return Position(self.seen[room].epoch, self.seen[room].offset + 1)

    def _take_joined(self, joined: Joined) -> None:
        since, position = self.present[joined.room], joined.position
        if joined.is_recovered:
            assert since is not None
            assert since.epoch == position.epoch
            offsets = [event.offset for event in joined.events]
            assert offsets == list(range(since.offset + 1, position.offset + 1))
        else:
            assert joined.events == ()
            if since is not None and since.epoch == position.epoch:
                self.record.not_recovered.append((joined.room, since))
        for event in joined.events:
            self.record.note_event(joined.room, position.epoch, event)
        self.seen[joined.room] = position


@attrs.define
class World:
    """The server of one life after the other, and those who talk to it through all of them."""

    settings: Settings
    is_durable: bool
    record: Record
    clients: list[Client]
    rooms: Rooms
    engine: FaultyEngine
    _life: AsyncExitStack
    _scope: trio.CancelScope

    @property
    def retention(self) -> Retention:
        history = self.settings.history
        return Retention(history.messages, history.bytes, history.age_seconds)

    async def end(self, *, suddenly: bool) -> None:
        """End this life of the server; what goes on in it is cut off if it is sudden."""
        if suddenly:
            self._scope.cancel()
        await self._life.aclose()

    async def restart(self, *, suddenly: bool) -> None:
        await self.end(suddenly=suddenly)
        self.rooms, self.engine, self._life, self._scope = await open_life(self.settings)
        for client in self.clients:
            client.take()
            client.reconnect()
        for room, before in self.record.held.items():
            position = await self.engine.position(room)
            assert (position.epoch == before.position.epoch) == self.is_durable

    async def tell(self, room: str, message: RoomMessage) -> None:
        await self.rooms.tell(room, message)

    async def leave_all(self, client: Client) -> None:
        """Do what the end of a connection does; its user comes back with another one."""
        for room in client.present:
            await self.tell(room, Leave(client.connection))
        await self.engine.settle()
        client.take()
        client.reconnect()

    async def check(self) -> None:
        """Look at every history, and at what every client has heard when nothing is under way any more."""
        await self.engine.settle()
        for room in {room for client in self.clients for room in client.seen.keys() | client.present.keys()}:
            self.record.note_history(room, await self.engine.read(room), self.retention)
        self.record.check_ids(self.settings.history.idempotency_seconds)
        for client in self.clients:
            client.take()
            if client.connection.disconnects:
                await self.leave_all(client)
            for room in client.present:
                assert client.seen[room] == self.record.held[room].position, "was not told all"


async def open_life(
    settings: Settings,
) -> tuple[Rooms, FaultyEngine, AsyncExitStack, trio.CancelScope]:
    """Open the engine and its rooms."""
    life, log = AsyncExitStack(), stdlib_log()
    scope = life.enter_context(trio.CancelScope())
    opened = open_engine(settings, wall_clock=lambda: BEGIN + trio.current_time(), log=log)
    engine = FaultyEngine(await life.enter_async_context(opened))
    policy = RestartPolicy(intensity=1000, backoff_seconds=0.0)
    opening = open_engine_and_rooms(settings, log=log, engine=engine, restarts=policy)
    _, rooms = await life.enter_async_context(opening)
    return rooms, engine, life, scope


@asynccontextmanager
async def open_world(settings: Settings, users: Sequence[str], *, is_durable: bool) -> AsyncIterator[World]:
    """Begin the first life of a server, and end the last."""
    record, codec = Record(), NoticesCodec()
    clients = [Client(user, record, new_connection(user, codec)) for user in users]
    world = World(settings, is_durable, record, clients, *await open_life(settings))
    try:
        yield world
    finally:
        # A life's scopes are opened and closed by hand, so nothing can be put around this; it ends by itself.
        await world.end(suddenly=True)  # noqa: ASYNC102
