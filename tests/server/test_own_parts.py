"""A program brings parts of its own to `open_broker`: each is used instead of the broker's."""

import re
from random import Random

import pytest
from prometheus_client import CollectorRegistry, Counter

from broker import Refused
from broker.engine.base import Retention
from broker.engine.memory import MemoryEngine
from broker.errors import ErrorCode
from broker.model import Capability, Claims
from tests.support.logs import RecordingLog
from tests.support.served import Serve

THEN = 1_234_567_890.0


class Doorkeeper:
    """Lets only some users into rooms, and everybody do anything there."""

    def check(self, claims: Claims, room: str, capability: Capability) -> None:
        if claims.user_id not in room:
            raise Refused(ErrorCode.FORBIDDEN, f"{room} is not for {claims.user_id}")


async def history(served, room: str) -> list[dict]:
    response = await served.http.get(f"/api/rooms/{room}/messages")
    return response.json()["messages"]


async def test_an_engine_outlives_the_brokers_that_it_is_given_to(serve: Serve) -> None:
    engine = MemoryEngine(wall_clock=lambda: THEN, idempotency_seconds=300.0)
    for number in (1, 2):
        async with serve(parts={"engine": engine}) as served:
            await served.broker.publish("den", {"type": "note", "n": number})
            assert [message["n"] for message in await history(served, "den")] == list(range(1, number + 1))
    assert (await engine.position("den")).offset == 2


class RaisingLog(RecordingLog):
    """Breaks what the interface of a log promises."""

    def _note(self, level: str, event: str, fields: dict[str, object]) -> None:
        super()._note(level, event, fields)
        raise ZeroDivisionError

    def lines_dropped(self) -> int:
        raise ZeroDivisionError

    def bind(self, **fields: object) -> RecordingLog:
        raise ZeroDivisionError


async def test_a_log_that_raises_costs_its_lines_and_nothing_else(serve: Serve) -> None:
    log = RaisingLog()
    async with serve(parts={"log": log}) as served:
        async with served.connect("/ws/den", "ann") as client:
            await client.receive("user_joined")
            # Each is a line of the log, written in the tasks that serve all.
            refused = await client.ask("error", type="join", room="a/b", id=1)
            assert refused["code"] == "invalid_message"
            assert (await served.http.get("/api/nothing")).status_code == 404
            await served.broker.publish("den", {"type": "note", "n": 1})
            assert (await client.receive("note"))["n"] == 1
        metrics = (await served.http.get("/metrics")).text
    assert len(log.refused) >= 2
    [dropped] = re.findall(r"^greenroom_log_lines_dropped_total\S* (\S+)$", metrics, re.MULTILINE)
    assert float(dropped) >= 2


async def test_a_policy_decides_who_may_join(serve: Serve) -> None:
    # By the settings nobody may join any room.
    async with serve(parts={"policy": Doorkeeper()}, rooms=[{"pattern": "*", "access": "none"}]) as served:
        async with served.connect("/ws", "ann") as client:
            refused = await client.ask("error", type="join", room="bob's", id=1)
            assert (refused["code"], refused["message"]) == ("forbidden", "bob's is not for ann")
            assert (await client.ask("joined", type="join", room="ann's"))["room"] == "ann's"
        headers = {"Authorization": f"Bearer {served.token('ann')}"}
        response = await served.http.get("/api/rooms/bob's/events", headers=headers)
        assert response.status_code == 403


async def test_a_retention_decides_what_a_room_keeps(serve: Serve) -> None:
    def retention(room: str) -> Retention:
        return Retention(messages=1 if room == "short" else 2, bytes=1000, age_seconds=60.0)

    async with serve(parts={"retention": retention}) as served:
        for room, kept in (("short", [3]), ("long", [2, 3])):
            for number in (1, 2, 3):
                await served.broker.publish(room, {"type": "note", "n": number})
            assert [message["n"] for message in await history(served, room)] == kept


async def test_a_registry_has_the_metrics_of_program_and_broker_until_the_block_ends(serve: Serve) -> None:
    registry = CollectorRegistry(auto_describe=True)
    Counter("sold", "Things sold", registry=registry).inc(3)
    own = {metric.name for metric in registry.collect()}
    # Twice: the second finds no metrics of the first.
    for _ in range(2):
        async with serve(parts={"registry": registry}) as served:
            text = (await served.http.get("/metrics")).text
            assert re.search(r"^sold_total\{.*\} 3\.0$", text, re.MULTILINE)
            assert re.search(r"^greenroom_connections\{.*\} 0\.0$", text, re.MULTILINE)
            # A program may have registered these itself.
            assert "process_cpu_seconds_total" not in text
            with pytest.raises(ValueError, match="greenroom"):
                async with serve(parts={"registry": registry}):
                    pass
        assert {metric.name for metric in registry.collect()} == own


async def test_a_wall_clock_decides_the_time_of_events_and_the_end_of_tokens(serve: Serve) -> None:
    async with serve(parts={"wall_clock": lambda: THEN, "boot_clock": lambda: 5.0}) as served:
        await served.broker.publish("den", {"type": "note"})
        [message] = await history(served, "den")
        assert message["time"] == THEN * 1000
        # Long over by the machine's clock.
        async with served.connect("/ws/den", "ann", now=THEN) as client:
            assert (await client.receive("joined"))["room"] == "den"


async def test_a_boot_clock_decides_how_old_events_are(serve: Serve) -> None:
    now = [0.0]
    parts = {"boot_clock": lambda: now[0]}
    async with serve(parts=parts, history={"age_seconds": 10.0}) as served:
        await served.broker.publish("den", {"type": "note"})
        assert len(await history(served, "den")) == 1
        now[0] = 11.0
        assert await history(served, "den") == []


async def test_a_log_gets_the_lines(serve: Serve) -> None:
    log = RecordingLog()
    async with serve(parts={"log": log}):
        pass
    assert "draining" in log.events


async def test_chance_decides_when_clients_come_back(serve: Serve) -> None:
    async def delay(seed: int) -> int:
        async with (
            serve(parts={"random": Random(seed)}, server={"drain_seconds": 1.0}) as served,
            served.connect("/ws", "ann") as client,
        ):
            served.broker.begin_drain()
            return (await client.receive("reconnect"))["after_ms"]

    assert await delay(1) == await delay(1) != await delay(2)
