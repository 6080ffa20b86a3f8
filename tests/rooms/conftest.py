"""Rooms as the server opens them, over a memory engine that can be made to fail, with members that take notes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Ref, Reply, RestartPolicy
from broker.assembly import open_engine_and_rooms
from broker.config.settings import HistorySettings, LimitSettings, RoomRule, RoomSettings, Settings
from broker.engine.base import Engine, Receipt, Retention, Run
from broker.engine.memory import MemoryEngine
from broker.model import Draft, IdempotencyKey, Position
from broker.notices import RequestId, RoomEvent
from broker.rooms.directory import Rooms, retention_for
from broker.rooms.messages import Join, Leave, Publish, RoomMessage
from tests.support.logs import RecordingLog
from tests.support.members import NoticesCodec, Person

BEGIN = 1_700_000_000.0
"""Unix seconds at trio time 0."""


class WatchedEngine(Engine):
    """Passes every call on; counts them, and raises what it is told to, before or after the call is done."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.is_prompt = False
        """Whether one draft may be appended without a wait, so that rooms lend their turns."""
        self.appended: list[list[Draft]] = []
        self.reads = 0
        self.before: dict[str, list[Exception]] = {"position": [], "append": [], "read": []}
        self.after_append: list[Exception] = []
        self.said: dict[str, list[RoomEvent]] = {}
        """All that was ever appended to each room, here or elsewhere."""

    async def position(self, room: str) -> Position:
        self._fail("position")
        return await self.inner.position(room)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        self._fail("append")
        self.appended.append(list(drafts))
        receipts = await self.append_elsewhere(room, drafts, retention)
        if self.after_append:
            # What is in no history is lost with the answer.
            lost = [receipt.event for receipt in receipts if receipt.position is None]
            self.said[room] = [said for said in self.said[room] if said.event not in lost]
            raise self.after_append.pop(0)
        return receipts

    def append_nowait(self, room: str, draft: Draft, retention: Retention, after: Position) -> Receipt | None:
        if not self.is_prompt or self.before["append"] or self.after_append:
            return None
        receipt = self.inner.append_nowait(room, draft, retention, after)
        if receipt is not None:
            self.appended.append([draft])
            if receipt.event is not None:
                self.said.setdefault(room, []).append(RoomEvent(room, after.epoch, receipt.event))
        return receipt

    async def append_elsewhere(
        self, room: str, drafts: Sequence[Draft], retention: Retention
    ) -> Sequence[Receipt]:
        """Append behind the room's back, as another node would."""
        receipts = await self.inner.append(room, drafts, retention)
        epoch = (await self.inner.position(room)).epoch
        events = [receipt.event for receipt in receipts if receipt.event is not None]
        self.said.setdefault(room, []).extend(RoomEvent(room, epoch, event) for event in events)
        return receipts

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        self._fail("read")
        self.reads += 1
        return await self.inner.read(room, after=after, limit=limit, reverse=reverse)

    async def clear(self, room: str) -> int:
        return await self.inner.clear(room)

    async def wait_ready(self) -> None:
        await self.inner.wait_ready()

    def _fail(self, call: str) -> None:
        if self.before[call]:
            raise self.before[call].pop(0)


@attrs.define
class Stage:
    """The rooms, all that is around them, and what a session or the HTTP API would send them."""

    rooms: Rooms
    engine: WatchedEngine
    log: RecordingLog
    settings: Settings
    codec: NoticesCodec = attrs.Factory(NoticesCodec)
    refs: dict[str, Ref[RoomMessage]] = attrs.Factory(dict)

    def person(self, user_id: str = "ann", *, is_visible: bool = True) -> Person:
        return Person(user_id, self.codec, is_visible=is_visible)

    async def tell(self, *messages: RoomMessage, room: str = "den") -> None:
        """Send messages that the room takes as one batch, and wait until it has."""
        first, *rest = messages
        ref = self.refs[room] = await self.rooms.tell(room, first)
        for message in rest:
            ref.tell_always(message)
        await wait_all_tasks_blocked()

    async def join(
        self,
        person: Person,
        *,
        room: str = "den",
        since: Position | None = None,
        request_id: RequestId = None,
        last: int | None = None,
    ) -> Person:
        """Join as a session does, and wait until everyone has been told."""
        reply: Reply[None] = Reply()
        ref = self.refs[room] = await self.rooms.tell(room, Join(person, since, request_id, reply, last=last))
        await ref.wait_reply(reply)
        await wait_all_tasks_blocked()
        return person

    async def enter(self, user_id: str = "ann", *, room: str = "den") -> Person:
        """Join somebody new who has heard nothing yet."""
        person = await self.join(self.person(user_id), room=room)
        person.forget()
        return person

    async def leave(self, person: Person, *, room: str = "den", is_answered: bool = False) -> None:
        await self.tell(Leave(person, is_answered), room=room)

    async def say(self, *texts: str, room: str = "den") -> None:
        """Say something for nobody in particular, as one batch."""
        await self.tell(*[Publish(Draft(text.encode())) for text in texts], room=room)

    @staticmethod
    def chat(
        text: str, sender: Person | None = None, request_id: RequestId = None, *, ephemeral: bool = False
    ) -> Publish:
        """Return what a session sends, with the key that goes with its id."""
        key = None
        if sender is not None and request_id is not None:
            key = IdempotencyKey(f"user {sender.user_id}", str(request_id))
        return Publish(Draft(text.encode(), ephemeral, key), sender, request_id)

    @staticmethod
    def joining(person: Person, since: Position | None = None) -> Join:
        """Return a join that nobody waits for."""
        return Join(person, since, None, Reply())

    @staticmethod
    def leaving(person: Person) -> Leave:
        """Return what a session sends when its connection ends."""
        return Leave(person)

    async def position(self, room: str = "den") -> Position:
        return await self.engine.inner.position(room)

    async def append(self, *texts: str, room: str = "den") -> None:
        """Append behind the room's back, as another node would."""
        drafts = [Draft(text.encode()) for text in texts]
        await self.engine.append_elsewhere(room, drafts, retention_for(self.settings, room))


NewPerson = Callable[..., Person]


@pytest.fixture(scope="session")
def new_person() -> NewPerson:
    """Return what makes a member: `new_person("ann", codec, is_visible=False)`, by default with its own codec."""

    def made(user_id: str, codec: NoticesCodec | None = None, *, is_visible: bool = True) -> Person:
        return Person(user_id, codec or NoticesCodec(), is_visible=is_visible)

    return made


OpenStage = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def open_stage() -> OpenStage:
    """Return what opens rooms: `open_stage(gather_above=2, messages=0)`."""

    @asynccontextmanager
    async def opened(
        *,
        gather_above: int = 100,
        gather_seconds: float = 1.0,
        idle_seconds: float = 60.0,
        messages: int = 1000,
        age_seconds: float = 86_400.0,
        page_messages: int = 1000,
        page_bytes: int = 1 << 19,
        recovery_bytes: int = 1 << 20,
        most_rooms: int = 1000,
        rules: tuple[RoomRule, ...] = (),
        policy: RestartPolicy | None = None,
        watched: Callable[[Engine], WatchedEngine] = WatchedEngine,
    ) -> AsyncIterator[Stage]:
        settings = Settings(
            room=RoomSettings(
                gather_above=gather_above, gather_seconds=gather_seconds, idle_seconds=idle_seconds
            ),
            history=HistorySettings(
                messages=messages,
                age_seconds=age_seconds,
                page_messages=page_messages,
                page_bytes=page_bytes,
                recovery_bytes=recovery_bytes,
            ),
            limits=LimitSettings(rooms=most_rooms),
            rooms=rules,
        )
        memory = MemoryEngine(
            wall_clock=lambda: BEGIN + trio.current_time(),
            idempotency_seconds=settings.history.idempotency_seconds,
        )
        engine, log = watched(memory), RecordingLog()
        is_virtual = isinstance(trio.lowlevel.current_clock(), MockClock)
        with trio.fail_after(1_000_000 if is_virtual else 30):
            async with open_engine_and_rooms(
                settings, log=log, engine=engine, restarts=policy or RestartPolicy(backoff_seconds=0.0)
            ) as (_, rooms):
                yield Stage(rooms, engine, log, settings)

    return opened


@pytest.fixture
async def stage(open_stage: OpenStage) -> AsyncIterator[Stage]:
    """Open rooms with the usual settings. A test that lets time pass asks for `autojump_clock` as well."""
    async with open_stage() as opened:
        yield opened
