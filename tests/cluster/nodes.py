"""Nodes that share rooms through Redis, in one process, and guests of theirs who keep account of what they hear."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import attrs
import trio

from actors import Reply
from broker.assembly import open_engine_and_rooms
from broker.config.settings import HistorySettings, RedisSettings, RoomSettings, ServerSettings, Settings
from broker.engine.redis.engine import RedisEngine
from broker.errors import EngineUnavailableError
from broker.log import stdlib_log
from broker.model import Draft, IdempotencyKey, Position, Shown
from broker.notices import Acknowledged, Failed, Gap, Joined, Notice, RoomEvent, Withheld
from broker.room_actors import RoomActor
from broker.rooms.directory import Rooms
from broker.rooms.frame import RoomFrame
from broker.rooms.messages import Join, Leave, Publish, Published, RoomMessage
from broker.wakeup import Wakeup
from tests.support.members import NoticesCodec, Person, RecordingOutbox
from tests.support.patience import PATIENCE_SECONDS

TIMEOUT_SECONDS = 2.0
"""Silence after which these nodes give up on a server."""
LEASE_SECONDS = 3.0
"""Silence after which the others take one of these nodes to be dead."""

_guests = count(1)


class CheckingOutbox(RecordingOutbox):
    """Gives each notice to `check` before it notes it; nothing is refused here."""

    def __init__(self, check: Callable[[Notice], None]) -> None:
        super().__init__(NoticesCodec())
        self._check = check
        self.news = Wakeup()

    def note(self, notices: tuple[Notice, ...]) -> None:
        for notice in notices:
            self._check(notice)
        super().note(notices)
        self.news.set()

    def hold(self, frame: RoomFrame) -> int:
        raise AssertionError("nothing is refused here")


class Guest(Person):
    """A member who checks that what it hears of a room is a run without gap or repeat."""

    def __init__(self, user_id: str, info: bytes | None = None) -> None:
        outbox = CheckingOutbox(self._check)
        number = next(_guests)
        super().__init__(user_id, outbox=outbox, shown=Shown(user_id, f"c{number}", number, info))
        self.news = outbox.news
        self.at: Position | None = None

    async def wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.news.wait()

    async def wait_texts(self, *texts: str) -> None:
        """Wait until it has heard as many texts, which must be these in this order."""
        await self.wait(lambda: len(self.texts()) >= len(texts))
        assert self.texts() == list(texts)

    def _check(self, notice: Notice) -> None:
        match notice:
            case Joined(position=position):
                self.at = position
            case RoomEvent(epoch=epoch, event=event) if event.offset is not None:
                assert self.at is not None, "told before it was welcomed"
                expected = self.at.offset + 1 if epoch == self.at.epoch else 1
                assert event.offset == expected, "missed or repeated"
                self.at = Position(epoch, event.offset)
            case Withheld(first=first, offset=offset, epoch=epoch):
                assert self.at is not None, "told before it was welcomed"
                assert epoch == self.at.epoch
                assert first <= self.at.offset + 1, "missed"
                self.at = Position(epoch, offset)
            case Gap(last=last):
                assert self.at is not None
                self.at = Position(self.at.epoch, last)


@attrs.frozen
class Node:
    """One node's rooms and engine, and what a session or the HTTP API would ask of them."""

    rooms: Rooms
    engine: RedisEngine

    async def join(self, guest: Guest, room: str = "den", *, since: Position | None = None) -> Joined:
        reply: Reply[None] = Reply()
        ref = await self.rooms.tell(room, Join(guest, since, None, reply))
        await ref.wait_reply(reply)
        return guest.heard_of(Joined)[-1]

    async def enter(self, user_id: str, room: str = "den", *, info: bytes | None = None) -> Guest:
        guest = Guest(user_id, info)
        await self.join(guest, room)
        return guest

    async def leave(self, guest: Guest, room: str = "den") -> None:
        await self.tell(Leave(guest), room)

    async def tell(self, message: RoomMessage, room: str = "den") -> None:
        await self.rooms.tell(room, message)

    async def say(self, *texts: str, room: str = "den") -> None:
        for text in texts:
            await self.rooms.publish(room, Draft(text.encode()))

    async def chat(
        self, guest: Guest, text: str, request_id: int, room: str = "den"
    ) -> Acknowledged | Failed:
        """Say something as a session does, and return the answer."""
        seen = len(guest.heard)
        key = IdempotencyKey(f"user {guest.user_id}", str(request_id))
        await self.tell(Publish(Draft(text.encode(), key=key), guest, request_id), room)

        def answers() -> list[Acknowledged | Failed]:
            return [
                notice
                for notice in guest.heard[seen:]
                if isinstance(notice, Acknowledged | Failed) and notice.request_id == request_id
            ]

        await guest.wait(lambda: bool(answers()))
        return answers()[0]

    async def publish(self, text: str, key: str, room: str = "den") -> Published:
        """Say something as the HTTP API does, again until it is stored."""
        while True:
            try:
                return await self.rooms.publish(room, Draft(text.encode(), key=IdempotencyKey("http", key)))
            except EngineUnavailableError:
                await trio.sleep(0.01)


def settings_for(url: str, *, lease_seconds: float = LEASE_SECONDS, **rooms: float) -> Settings:
    """Return the settings of a node, with short times."""
    return Settings(
        server=ServerSettings(engine=url),
        redis=RedisSettings(
            prefix="cluster",
            timeout_seconds=TIMEOUT_SECONDS,
            probe_seconds=0.05,
            lease_seconds=lease_seconds,
        ),
        history=HistorySettings(messages=100_000, bytes=1 << 28),
        room=RoomSettings(**rooms),
    )


@asynccontextmanager
async def open_node(
    url: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    classes: Sequence[type[RoomActor[Any]]] = (),
    **rooms: float,
) -> AsyncIterator[Node]:
    """Open a node on the servers of a URL, and wait until it is ready if it can be."""
    settings = settings_for(url, lease_seconds=lease_seconds, **rooms)
    opening = open_engine_and_rooms(
        settings, log=stdlib_log(), wall_clock=time.time, boot_clock=time.time, classes=classes
    )
    with trio.fail_after(PATIENCE_SECONDS):
        async with opening as (engine, rooms_here):
            assert isinstance(engine, RedisEngine)
            await engine.wait_ready()
            yield Node(rooms_here, engine)
