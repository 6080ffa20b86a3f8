"""The entries that the connections of a served broker cause: those of users who come and leave, and of messages."""

import json
from base64 import b64encode
from pathlib import Path

import trio

from broker.config.settings import ServerSettings, Settings, SqliteSettings
from broker.engine.memory import MemoryEngine
from broker.engine.open import open_engine
from broker.engine.outbox import Entry, Kind, Outbox, Queue
from broker.log import stdlib_log
from tests.support.patience import PATIENCE_SECONDS
from tests.support.served import Serve

QUEUES = (Queue("all", frozenset(Kind), hold_back_seconds=0.0),)
PEOPLE_OF_DEN = (Queue("all", frozenset({Kind.USER_JOINED, Kind.USER_LEFT}), ("den",), 0.0),)


def made_engine(queues: tuple[Queue, ...] = QUEUES) -> MemoryEngine:
    return MemoryEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300.0, queues=queues)


async def wait_for(outbox: Outbox, count: int) -> list[str]:
    """Wait until there are as many entries, and return each as `kind room user`."""
    [partition] = outbox.partitions
    with trio.fail_after(PATIENCE_SECONDS):
        while len(entries := await outbox.read(partition, "all", limit=1000)) < count:
            await outbox.wait_new(partition, "all")
    return [" ".join(filter(None, (each.kind.value, each.room, each.user))) for each in entries]


async def test_users_and_rooms_come_and_leave_with_connections(serve: Serve) -> None:
    engine = made_engine()
    assert engine.outbox is not None
    came = ["user_online ann", "room_occupied den", "user_joined den ann"]
    async with serve(parts={"engine": engine}) as served:
        async with served.connect("/ws/den", "ann", info={"name": "Ann"}) as first:
            await first.receive("joined")
            async with served.connect("/ws/den", "ann") as second:
                await second.receive("joined")
                async with served.connect("/ws/den", "spy", is_hidden=True) as hidden:
                    await hidden.receive("joined")
                    await first.ask("ack", type="chat", text="hi", id=1)
                    said = [*came, "user_online spy", "message den ann"]
                    assert await wait_for(engine.outbox, 5) == said
                    await second.ask("left", type="leave", room="den")
                    await second.ask("joined", type="join", room="attic")
            moved = [
                *[*said, "room_occupied attic", "user_joined attic ann"],
                *["user_offline spy", "user_left attic ann", "room_vacated attic"],
            ]
            assert sorted(await wait_for(engine.outbox, 10)) == sorted(moved)
            removed = await served.http.delete("/api/rooms/den/users/ann")
            assert removed.status_code == 200
            assert (await first.close_code())[0] == 4004
        gone = ["user_left den ann", "room_vacated den", "user_offline ann"]
        assert sorted(await wait_for(engine.outbox, 13)) == sorted([*moved, *gone])
    [partition] = engine.outbox.partitions
    entries: list[Entry] = list(await engine.outbox.read(partition, "all", limit=100))
    infos = [json.loads(bytes(each.fields)) for each in entries if each.user == "ann"][:2]
    assert infos == [{"info": {"name": "Ann"}}] * 2


async def test_event_streams_are_connections_and_those_of_the_api_key_are_not(serve: Serve) -> None:
    engine = made_engine()
    assert engine.outbox is not None
    async with serve(parts={"engine": engine}) as served:
        token = served.token("ann")
        async with served.http.stream("GET", "/api/rooms/den/events") as listener:
            assert listener.status_code == 200
            async with served.http.stream(
                "GET", "/api/rooms/den/events", headers={"Authorization": f"Bearer {token}"}
            ) as stream:
                assert stream.status_code == 200
                came = ["user_online ann", "room_occupied den", "user_joined den ann"]
                assert await wait_for(engine.outbox, 3) == came
            gone = ["user_left den ann", "room_vacated den", "user_offline ann"]
            assert sorted(await wait_for(engine.outbox, 6)) == sorted([*came, *gone])


async def test_rooms_that_no_queue_wants_are_not_told(serve: Serve) -> None:
    engine = made_engine(PEOPLE_OF_DEN)
    assert engine.outbox is not None
    async with serve(parts={"engine": engine}) as served:
        async with served.connect("/ws/attic", "ann") as client:
            await client.receive("joined")
            await client.ask("joined", type="join", room="den")
        assert await wait_for(engine.outbox, 2) == ["user_joined den ann", "user_left den ann"]


async def test_everybody_has_left_a_broker_that_stopped(serve: Serve, tmp_path: Path) -> None:
    """The webhooks of the configuration are the queues; what was written is there after the stop."""
    webhook = {
        "name": "all",
        "url": "http://127.0.0.1:9/",
        "secret": "whsec_" + b64encode(bytes(range(32))).decode(),
        "rooms": ["den"],
        "hold_back_seconds": 0,
    }
    server = {"engine": f"sqlite:///{tmp_path}/rooms.db"}
    sqlite = {"witness_directory": str(tmp_path)}
    async with (
        serve(server=server, sqlite=sqlite, webhooks=[webhook]) as served,
        served.connect("/ws/den", "ann") as client,
    ):
        await client.receive("joined")
        served.broker.begin_drain()
        await client.close_code()
    settings = Settings(
        server=ServerSettings(engine=server["engine"]), sqlite=SqliteSettings(witness_directory=str(tmp_path))
    )
    async with open_engine(settings, wall_clock=lambda: 1.8e9, log=stdlib_log(), queues=QUEUES) as engine:
        assert engine.outbox is not None
        told = await wait_for(engine.outbox, 6)
    assert sorted(told) == sorted(
        [
            *["user_online ann", "room_occupied den", "user_joined den ann"],
            *["user_left den ann", "room_vacated den", "user_offline ann"],
        ]
    )
