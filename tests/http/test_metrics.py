"""/metrics, as Prometheus reads it."""

import json
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import trio
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from broker.engine.base import EngineHealth, EngineMeter, measured
from broker.engine.memory import MemoryEngine
from broker.histograms import SizeHistogram
from broker.http.nodes.scrape import pack_metrics, render_metrics
from broker.room_actors import RoomActor

DOCS = Path(__file__).parents[2] / "docs"


async def scrape(world):
    response = await world.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples_of(response.text)


def samples_of(text):
    """Return the samples of a page by name and labels, but for those of the place, which all have."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("node") == socket.gethostname()
            assert labels.pop("worker") == "0"
            samples[sample.name, *sorted(labels.items())] = sample.value
    return samples


async def listen(world, client, token, room="lobby"):
    await client.send(f"GET /api/rooms/{room}/events?token={token} HTTP/1.1\r\nHost: t\r\n\r\n")
    await client.until(b'"joined"')


async def test_rooms_connections_and_deliveries_are_counted(world):
    async with world.connect() as ann, world.connect() as bob:
        await listen(world, ann, world.token("ann"))
        await listen(world, bob, world.token("bob"))
        await world.say("other", 1)
        before = await scrape(world)
        assert before["greenroom_connections",] == 2
        assert before["greenroom_rooms",] == 2
        assert before["greenroom_room_members",] == 2
        await world.say("lobby", 1)
        after = await scrape(world)
        assert after["greenroom_deliveries_total",] == before["greenroom_deliveries_total",] + 2
        assert after["greenroom_deliveries_lost_total",] == 0
        assert after["greenroom_rooms_started_total",] == 2
        assert after["process_resident_memory_bytes",] > 0


async def test_deliveries_are_not_forgotten_with_their_room(open_world):
    async with open_world(room={"idle_seconds": 0.05}) as world:
        async with world.connect() as client:
            await listen(world, client, world.token("ann"))
            await world.say("lobby", 1)
            before = await scrape(world)
        after = before
        while after["greenroom_rooms",]:
            after = await scrape(world)
        assert after["greenroom_rooms_passivated_total",] == 1
        assert after["greenroom_deliveries_total",] >= before["greenroom_deliveries_total",] >= 1


async def test_requests_are_counted_by_route_and_not_by_path(world):
    for room in ("room-1", "room-2"):
        await world.say(room, 1)
    await world.client.get("/nothing/here")
    await world.client.request("BREW", "/health")
    await world.client.get("/api/rooms?limit=0")
    metrics = await scrape(world)

    def count(method, route, status):
        labels = (("method", method), ("route", route), ("status", status))
        return metrics["greenroom_http_requests_total", *labels]

    assert count("POST", "/api/rooms/<room>/messages", "200") == 2
    assert count("GET", "unmatched", "404") == 1
    assert count("other", "unmatched", "405") == 1
    assert count("GET", "/api/rooms", "400") == 1
    labels = (("method", "POST"), ("route", "/api/rooms/<room>/messages"))
    assert metrics["greenroom_http_request_seconds_count", *labels] == 2
    assert not [key for key in metrics if "room-1" in str(key[1:])]


async def test_two_brokers_of_one_process_do_not_meet(open_world):
    async with open_world() as one, open_world() as two:
        await one.say("lobby", 1)
        assert (await scrape(one))["greenroom_rooms",] == 1
        assert (await scrape(two))["greenroom_rooms",] == 0


def calls_of_a_scrape(world):
    """Return how many functions are called for one; a generator counts each time it goes on."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        generate_latest(world.services.metrics)
    finally:
        sys.setprofile(None)
    return calls


async def test_a_scrape_costs_the_same_however_many_rooms_there_are(world):
    await world.say("first", 1)
    calls_of_a_scrape(world)
    before = calls_of_a_scrape(world)
    for number in range(50):
        await world.say(f"room {number}", 1)
    assert calls_of_a_scrape(world) < before + 50


async def test_the_memory_of_histories_and_the_evicted_rooms_are_metrics(open_world):
    engine = MemoryEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300, total_bytes=20_000)
    async with open_world(engine=engine) as world:
        for number in range(20):
            await world.say(f"room {number}", 1)
        metrics = await scrape(world)
        assert 10_000 < metrics["greenroom_history_bytes",] <= 20_000
        assert metrics["greenroom_rooms_evicted_total",] > 5


async def test_the_reference_lists_every_metric(open_world):
    async with open_world(engine=TroubledEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)) as world:
        page = (await world.client.get("/metrics")).text
    families = set(re.findall(r"^# TYPE (greenroom_\w+?) (?:counter|gauge|histogram)$", page, re.MULTILINE))
    assert "greenroom_rooms" in families
    reference = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    listed = reference.partition("### Metrics")[2].partition("\n### ")[0]
    families = {name for name in families if not name.endswith("_created")}
    assert [name for name in sorted(families) if not re.search(rf"`{name}[`{{]", listed)] == []


def families_of(page):
    return {family.name: family for family in text_string_to_metric_families(page)}


async def test_publishes_are_counted_with_their_latency(world):
    before = await scrape(world)
    for _ in range(3):
        await world.say("lobby", 1)
    after = await scrape(world)
    name = "greenroom_publish_seconds"
    assert after[f"{name}_count",] - before[f"{name}_count",] == 3
    assert after[f"{name}_sum",] > before[f"{name}_sum",]
    buckets = {
        float(dict(labels)["le"]): value for (key, *labels), value in after.items() if key == f"{name}_bucket"
    }
    assert len(buckets) == 12
    assert sorted(buckets.values()) == [value for _, value in sorted(buckets.items())]
    assert buckets[float("inf")] == after[f"{name}_count",]
    assert buckets[64.0] == 3


class Quiz(RoomActor[None], pattern="quiz.*"):
    """A room with code."""


class TroubledEngine(MemoryEngine):
    """Knows that one of its servers is away, and measures what it does."""

    meter = EngineMeter([SizeHistogram()])

    def health(self):
        return EngineHealth(is_up=False, servers_up=(True, False))


async def test_the_state_of_engine_and_servers_is_shown(open_world):
    async with open_world() as world:
        metrics = await scrape(world)
        assert metrics["greenroom_engine_up",] == 1
        assert metrics["greenroom_draining",] == 0
        assert not [key for key in metrics if key[0] == "greenroom_redis_up"]
        [build] = [dict(key[1:]) for key in metrics if key[0] == "greenroom_build_info"]
        assert build == {"version": world.services.node.version, "engine": "memory"}
    async with open_world(engine=TroubledEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)) as world:
        metrics = await scrape(world)
        assert metrics["greenroom_engine_up",] == 0
        assert metrics["greenroom_redis_up", ("server", "0")] == 1
        assert metrics["greenroom_redis_up", ("server", "1")] == 0


async def test_names_and_help_follow_the_guidelines_of_prometheus(world):
    await world.say("lobby", 1)
    for family in families_of((await world.client.get("/metrics")).text).values():
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", family.name)
        if family.name.startswith("greenroom_") and not family.name.endswith("_created"):
            assert family.documentation
            assert not re.search(r"_(count|sum|bucket|total|milliseconds|ms|kib|minutes)$", family.name)
            assert not re.search(r"(gauge|counter|histogram)", family.name)
            for sample in family.samples:
                assert sample.name.endswith("_total") is (family.type == "counter")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
async def test_promtool_has_nothing_to_say(world):
    await world.say("lobby", 1)
    page = (await world.client.get("/metrics")).content
    done = await trio.run_process(
        ["promtool", "check", "metrics"], stdin=page, capture_stdout=True, capture_stderr=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def expressions_of_the_dashboard():
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
async def test_promtool_can_read_the_queries_of_the_dashboard(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions_of_the_dashboard())
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = await trio.run_process(
        ["promtool", "check", "rules", str(file)], capture_stdout=True, capture_stderr=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert f"{len(rules)} rules found" in done.stdout.decode()


async def test_the_books_of_deliveries_balance(world):
    async with world.connect() as ann, world.connect() as bob:
        await listen(world, ann, world.token("ann"))
        tags = "%7B%22k%22:%5B%22v%22%5D%7D"
        await bob.send(
            f"GET /api/rooms/lobby/events?token={world.token('bob')}&tags={tags} HTTP/1.1\r\nHost: t\r\n\r\n"
        )
        await bob.until(b'"joined"')
        for n in range(5):
            await world.say("lobby", n)
        page = await scrape(world)
        outcome = {
            name: page["greenroom_delivery_outcomes_total", ("outcome", name)]
            for name in ("written", "dropped", "gone", "filtered")
        }
        assert outcome["filtered"] == 5
        assert outcome["dropped"] == page["greenroom_deliveries_lost_total",] == 0
        ended = outcome["written"] + outcome["dropped"] + outcome["gone"]
        assert page["greenroom_deliveries_total",] == ended + page["greenroom_deliveries_waiting",]
        assert page["greenroom_deliveries_total",] >= 5


async def test_the_dashboard_asks_for_metrics_that_exist(open_world):
    expressions = expressions_of_the_dashboard()
    asked = set(re.findall(r"\b(?:greenroom|process)_\w+", " ".join(expressions)))
    engine = TroubledEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine, classes=[Quiz]) as world:
        await world.say("lobby", 1)
        page = families_of((await world.client.get("/metrics")).text)
    there = {sample.name for family in page.values() for sample in family.samples}
    assert asked - there == set()
    of_ours = {name for name in page if name.startswith("greenroom_") and not name.endswith("_created")}
    assert len(of_ours) > 15
    assert [name for name in of_ours if not any(one.startswith(name) for one in asked)] == []


def histogram(metrics, name, **labels):
    """Return the count and the sum of a histogram."""
    labels = tuple(sorted(labels.items()))
    return metrics[f"{name}_count", *labels], metrics[f"{name}_sum", *labels]


async def test_joins_are_counted_with_their_time_and_refused_ones_are_not(world):
    before = histogram(await scrape(world), "greenroom_join_seconds")
    async with world.connect() as ann, world.connect() as bob:
        await listen(world, ann, world.token("ann"))
        token = world.token("bob", rooms=["elsewhere"])
        await bob.send(f"GET /api/rooms/lobby/events?token={token} HTTP/1.1\r\nHost: t\r\n\r\n")
        await bob.until(b"403")
        after = histogram(await scrape(world), "greenroom_join_seconds")
    assert after[0] == before[0] + 1
    assert after[1] > before[1]


async def test_bytes_that_a_slow_peer_has_yet_to_read_are_counted_until_it_is_gone(open_world):
    async with open_world(websocket={"outbox_bytes": 64 << 20}) as world:
        async with world.connect() as client:
            await listen(world, client, world.token("ann"))
            assert (await scrape(world))["greenroom_outbox_bytes",] == 0
            waiting = 0
            while not waiting:  # until the buffers of the kernel are full
                message = {"type": "note", "text": "x" * 60_000}
                await world.client.post("/api/rooms/lobby/messages", json=message)
                waiting = (await scrape(world))["greenroom_outbox_bytes",]
        while (await scrape(world))["greenroom_outbox_bytes",]:
            await trio.sleep(0)


async def test_batches_and_the_lag_of_the_event_loop_are_measured(world):
    await world.say("lobby", 1)
    world.rooms.tally.delays.note(0.001, 20)
    world.rooms.tally.batches.note(20)
    metrics = await scrape(world)
    assert histogram(metrics, "greenroom_publish_batch_messages") == (2, 21)
    assert metrics["greenroom_publish_batch_messages_bucket", ("le", "1.0")] == 1
    assert metrics["greenroom_publish_batch_messages_bucket", ("le", "31.0")] == 2
    while histogram(await scrape(world), "greenroom_scheduler_lag_seconds")[0] == 0:
        await trio.sleep(0.1)


async def test_an_engine_with_a_store_measures_its_calls_and_transactions(open_world, tmp_path):
    async with open_world(server={"engine": f"sqlite:///{tmp_path}/rooms.db"}) as world:
        await world.say("lobby", 1)
        await world.client.get("/api/rooms/lobby/messages")
        await world.client.delete("/api/rooms/lobby/messages")
        metrics = await scrape(world)
        for operation, least in (("append", 1), ("read", 1), ("position", 1), ("clear", 1), ("commit", 2)):
            count, seconds = histogram(metrics, "greenroom_engine_seconds", operation=operation)
            assert count >= least, operation
            assert seconds > 0
        batches, requests = histogram(metrics, "greenroom_engine_batch_requests")
        assert requests >= batches >= 2


async def test_a_call_of_the_engine_that_fails_has_no_time():
    meter = EngineMeter([])
    with pytest.raises(OSError, match="away"), measured(meter.append):
        raise OSError("away")
    assert sum(meter.append.snapshot()) == 0


async def test_workers_are_told_apart_and_their_histograms_add_up(open_world):
    pages = {}
    for worker, publishes in enumerate((2, 3)):
        async with open_world() as world:
            for _ in range(publishes):
                await world.say("lobby", 1)
            pages[worker] = pack_metrics((world.services.metrics, world.services.requests.registry))
    page = families_of(render_metrics("here", [0, 1, 2], pages).decode())
    for name in ("greenroom_publish_seconds", "greenroom_publish_batch_messages"):
        counts = {
            sample.labels["worker"]: sample.value
            for sample in page[name].samples
            if sample.name == f"{name}_count"
        }
        assert counts == {"0": 2, "1": 3}
    up = {sample.labels["worker"]: sample.value for sample in page["greenroom_worker_up"].samples}
    assert up == {"0": 1, "1": 1, "2": 0}
