"""One token does its worst, over many connections and again and again: what it leaves behind has the stated bounds."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from broker.config.settings import HistorySettings, RedisSettings, ServerSettings, Settings, SqliteSettings
from broker.engine.base import Engine
from broker.engine.memory import EVENT_BYTES, ROOM_BYTES, MemoryEngine
from broker.engine.open import open_engine
from broker.log import stdlib_log
from broker.model import WallClock
from broker.sessions.allowance import MESSAGE_BYTES
from tests.engine.sqlite_files import connected
from tests.support.node import Node, OpenNode
from tests.support.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

NOW = 1_700_000_000.0
ROUNDS = 60
ROOMS_BURST, IDS, BYTES_BURST = 12, 40, 60_000
LIMITS: dict[str, Any] = {
    "messages_per_second": 1_000_000.0,
    "messages_burst": 1_000_000,
    "user_rooms_burst": ROOMS_BURST,
    "user_rooms_per_second": 0.001,
    "ids_per_user": IDS,
    "user_bytes_burst": BYTES_BURST,
    "user_bytes_per_second": 0.001,
    "connections_per_user": 5,
}
ROOM = "r" * 120


async def attack(node: Node) -> int:
    """Do everything that a token can, each time in a room of its own; returns how often it was refused."""
    refused = 0
    clients = []
    for number in range(ROUNDS):
        room, key = f"{ROOM} {number}", "k" * 120 + str(number)
        client = await node.client("ann", room if number % 3 == 0 else None)
        clients.append(client)
        try:
            for request in (
                {"type": "join", "room": room, "since": {"offset": 0, "epoch": "none"}},
                {
                    "type": "publish",
                    "room": room,
                    "event": "e",
                    "data": 1,
                    "ephemeral": True,
                    "id": key + "e",
                },
                {"type": "publish", "room": room, "event": "e", "data": 1, "ephemeral": True, "id": "asked"},
                {"type": "publish", "room": room, "event": "e", "data": "x" * 4000, "id": key},
                {"type": "chat", "room": room, "text": "\U0001f4a5" * 500, "id": key + "c"},
                {"type": "presence", "room": room},
                {"type": "history", "room": room},
                {"type": "nonsense", "room": room},
                *([{"type": "leave", "room": room}] if number % 2 else []),
            ):
                refused += (await client.ask(**request))["type"] == "error"
        except ConnectionClosed:
            refused += 1
        if len(clients) == LIMITS["connections_per_user"]:
            await clients.pop(0).aclose()
    assert refused > ROUNDS
    return refused


@attrs.frozen
class Left:
    """The data that one token has stored in an engine."""

    rooms: int
    keys: int
    content_bytes: int


@attrs.frozen
class Kept:
    """An engine, and how to look into it."""

    engine: Engine
    look: Callable[[], Left]


@asynccontextmanager
async def memory_kept(_path: Path, _redis: RedisServer | None) -> AsyncIterator[Kept]:
    engine = MemoryEngine(wall_clock=lambda: NOW, idempotency_seconds=300.0)

    def look() -> Left:
        logs = engine._logs.values()
        return Left(len(logs), len(engine._keys), sum(log.bytes for log in logs))

    yield Kept(engine, look)
    history_bytes = engine.statistics().history_bytes
    assert history_bytes is not None
    assert (
        history_bytes <= ROOMS_BURST * ROOM_BYTES + BYTES_BURST // MESSAGE_BYTES * EVENT_BYTES + BYTES_BURST
    )


@asynccontextmanager
async def opened(url: str, prefix: str, witnesses: Path = Path()) -> AsyncIterator[Engine]:
    settings = Settings(
        server=ServerSettings(engine=url),
        history=HistorySettings(idempotency_seconds=300.0),
        redis=RedisSettings(prefix=prefix),
        sqlite=SqliteSettings(witness_directory=str(witnesses)),
    )
    async with open_engine(settings, wall_clock=lambda: NOW, log=stdlib_log()) as engine:
        yield engine


@asynccontextmanager
async def sqlite_kept(path: Path, _redis: RedisServer | None) -> AsyncIterator[Kept]:
    file = path / "rooms.db"

    def look() -> Left:
        with connected(file) as connection:
            counts = (
                connection.execute(f"SELECT {what}").fetchone()[0]
                for what in (
                    "count(*) FROM rooms",
                    "count(*) FROM keys",
                    "coalesce(sum(length(content)), 0) FROM events",
                )
            )
            return Left(*counts)

    async with opened(f"sqlite:///{file}", "greenroom", path) as engine:
        yield Kept(engine, look)


@asynccontextmanager
async def redis_kept(_path: Path, redis: RedisServer | None) -> AsyncIterator[Kept]:
    assert redis is not None
    prefix = token_hex(8)

    def look() -> Left:
        names = [name.decode() for name in redis.ask("KEYS", f"{prefix}:*")]
        own = [name for name in names if "{" in name]
        assert all(redis.ask("PTTL", name) > 0 for name in own), "every key of a room expires"
        streams = [name for name in own if name.endswith(":events")]
        size = sum(len(fields[3]) for name in streams for _, fields in redis.ask("XRANGE", name, "-", "+"))
        rooms, keys = {name[: name.index("}")] for name in own}, sum(":sent:" in name for name in own)
        # For each room: where it stands, its events, who is in it on which node and who on this one.
        assert len(own) - keys <= 4 * len(rooms)
        assert len(names) - len(own) <= 3
        return Left(len(rooms), keys, size)

    async with opened(redis.url, prefix) as engine:
        yield Kept(engine, look)


OpenKept = Callable[[Path, RedisServer | None], AbstractAsyncContextManager[Kept]]


@pytest.mark.parametrize("open_kept", [memory_kept, sqlite_kept, redis_kept])
async def test_the_storage_taken_by_one_token_is_bounded(
    open_node: OpenNode, open_kept: OpenKept, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    redis = request.getfixturevalue("shared_redis") if open_kept is redis_kept else None
    async with (
        open_kept(tmp_path, redis) as kept,
        open_node(engine=lambda _clock: kept.engine, limits=LIMITS) as node,
    ):
        with trio.fail_after(300):
            await attack(node)
        left = kept.look()
        assert left.rooms <= ROOMS_BURST
        assert left.keys <= IDS
        assert left.content_bytes <= BYTES_BURST
        assert node.rooms.statistics().rooms <= ROOMS_BURST
        # Others are served as before.
        bob = await node.client("bob", "another")
        assert (await bob.ask(type="chat", text="x"))["type"] == "ack"


async def test_members_of_a_room_that_was_forgotten_for_others_miss_nothing(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    def small(clock: WallClock) -> MemoryEngine:
        return MemoryEngine(wall_clock=clock, idempotency_seconds=300.0, total_bytes=3 * ROOM_BYTES)

    async with open_node(engine=small) as node:
        ann, bob = await node.member("ann", "den"), await node.member("bob", "den")
        before = await ann.ask(type="chat", text="before")
        for number in range(10):
            eve = await node.client("eve", f"room {number}")
            await eve.ask(type="chat", text="x" * 500)
        assert node.engine.statistics().rooms_evicted > 0
        after = [await ann.ask(type="chat", text=text, id=text) for text in ("after", "again")]
        heard = [message for message in await bob.settle() if message["type"] == "chat"]
        assert [message["text"] for message in heard] == ["before", "after", "again"]
        assert [reply["offset"] for reply in after] == [1, 2]
        assert after[0]["epoch"] == after[1]["epoch"] != before["epoch"]
        since = {"offset": before["offset"], "epoch": before["epoch"]}
        assert not (await ann.ask(type="join", room="den", since=since))["recovered"]
