"""Batches: any number of publishes in one request, answered while it still comes in."""

import json

import pytest
import trio
import trio.testing

from broker.errors import EngineUnavailableError
from broker.http.api.batch import LOOK_AHEAD_LINES
from tests.support.engines import LongWayEngine
from tests.support.patience import PATIENCE_SECONDS


def line(room, n, **more):
    return json.dumps({"room": room, "message": {"type": "note", "n": n}, **more}).encode() + b"\n"


async def send_batch(world, *lines, **headers):
    response = await world.client.post("/api/messages", content=b"".join(lines), headers=headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(text) for text in response.text.splitlines()]


async def begin(client, *headers):
    """Begin a chunked request and return once the head of the answer is there."""
    await client.request("POST", "/api/messages", "Transfer-Encoding: chunked", *headers)
    status, _ = await client.head()
    assert status == 200


async def send_chunk(client, data):
    await client.send(b"%x\r\n%b\r\n" % (len(data), data))


async def read_result(client):
    """Read the next chunk of the answer, which is to hold one result."""
    size = int(await client.until(b"\r\n"), 16)
    chunk = await client.until(b"\r\n")
    assert len(chunk) == size + 2
    return json.loads(chunk)


async def test_each_line_gets_its_result_in_order(world):
    results = await send_batch(world, line("a", 1), line("b", 2, id="x"), line("a", 3))
    epoch = results[0]["epoch"]
    assert results[0] == {"line": 1, "room": "a", "offset": 1, "epoch": epoch, "members": 0}
    assert (results[1]["line"], results[1]["room"], results[1]["id"]) == (2, "b", "x")
    assert (results[2]["line"], results[2]["offset"]) == (3, 2)


async def test_a_result_comes_before_the_next_line_is_sent(world):
    async with world.connect() as client:
        await begin(client)
        for number in (1, 2, 3):
            await send_chunk(client, line("a", number))
            result = await read_result(client)
            assert (result["line"], result["offset"]) == (number, number)
        await client.send(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n")
        # The connection is good for another request.
        await client.request("GET", "/health")
        assert (await client.response())[0] == 200


async def test_lines_that_come_whole_are_answered_in_one_chunk(world):
    await world.say("a", 1)
    async with world.connect() as client:
        for offset in (2, 4):
            await client.request("POST", "/api/messages", body=line("a", 1) + line("a", 2))
            status, headers = await client.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            size = int(await client.until(b"\r\n"), 16)
            results = await client.until(b"\r\n0\r\n\r\n")
            assert len(results) == size + len(b"\r\n0\r\n\r\n")
            assert [json.loads(text)["offset"] for text in results.splitlines()[:2]] == [offset, offset + 1]


async def test_a_line_that_comes_in_pieces_is_one_line(world):
    whole = line("a", 1)
    async with world.connect() as client:
        await begin(client)
        for index in range(len(whole)):
            await send_chunk(client, whole[index : index + 1])
        assert (await read_result(client))["offset"] == 1


async def test_bad_lines_fail_alone_and_are_named(open_world):
    async with open_world(http={"body_bytes": 200}) as world:
        results = await send_batch(
            world,
            line("a", 1),
            b"{\n",
            b"\n",
            b'{"room":"a"}\n',
            b'{"room":"/","message":{"type":"x"},"id":7}\n',
            b'{"room":"a","message":{"type":"joined"}}\n',
            b'{"room":"a","message":{"type":"x","t":"\xff"}}\n',
            b'{"room":"a","message":{"type":"x"},"id":""}\n',
            b"x" * 300 + b"\n",
            line("a", 2),
        )
    codes = [(result["line"], result.get("error", {}).get("code")) for result in results]
    assert codes == [
        (1, None),
        (2, "invalid_json"),
        (4, "invalid_message"),
        (5, "invalid_message"),
        (6, "invalid_message"),
        (7, "invalid_json"),
        (8, "invalid_message"),
        (9, "invalid_message"),
        (10, None),
    ]
    assert (results[3]["id"], results[3]["room"]) == (7, "/")
    assert "id:" in results[6]["error"]["message"]
    assert "200 bytes" in results[7]["error"]["message"]
    assert results[-1]["offset"] == 2


async def test_an_id_is_an_idempotency_key(world):
    results = await send_batch(world, line("a", 1, id="k"), line("a", 1, id="k"), line("b", 1, id="k"))
    assert [result["offset"] for result in results] == [1, 1, 1]
    again = await world.client.post(
        "/api/rooms/a/messages", json={"type": "note"}, headers={"Idempotency-Key": "k"}
    )
    assert again.json()["offset"] == 1


async def test_a_room_hears_its_lines_in_order_and_in_few_appends(open_world):
    class SlowEngine(LongWayEngine):
        """Counts its appends; each lasts until nothing else in this process can go on."""

        appends = 0

        async def append(self, room, drafts, retention):
            self.appends += 1
            await trio.testing.wait_all_tasks_blocked()
            return await super().append(room, drafts, retention)

    engine = SlowEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine) as world:
        results = await send_batch(world, *[line("a", n) for n in range(500)])
        assert [result["offset"] for result in results] == list(range(1, 501))
        history = (await world.client.get("/api/rooms/a/messages")).json()
        assert [message["n"] for message in history["messages"]] == list(range(500))
        assert engine.appends <= 500 / LOOK_AHEAD_LINES + 8


async def test_a_room_that_waits_does_not_hold_up_the_order_of_results(open_world):
    class OneSlowRoom(LongWayEngine):
        async def append(self, room, drafts, retention):
            if room == "slow":
                await trio.sleep(0.1)
            return await super().append(room, drafts, retention)

    engine = OneSlowRoom(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine) as world:
        results = await send_batch(world, line("slow", 1), line("quick", 2), line("slow", 3))
        assert [result["line"] for result in results] == [1, 2, 3]


async def test_an_engine_that_is_away_fails_its_lines_alone(open_world):
    class Engine(LongWayEngine):
        async def append(self, room, drafts, retention):
            if room == "bad":
                raise EngineUnavailableError("not this one")
            return await super().append(room, drafts, retention)

    async with open_world(engine=Engine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)) as world:
        results = await send_batch(world, line("bad", 1), line("good", 2))
        assert results[0]["error"] == {
            "code": "unavailable",
            "message": "engine: unavailable",
            "retry_after_ms": 1000,
        }
        assert results[1]["offset"] == 1


async def test_a_client_that_does_not_read_is_not_read_either(open_world):
    """Both sides stop; when the client reads on, every line is answered."""
    lines = 20_000
    async with open_world() as world, world.connect() as client:
        await begin(client)
        sent = 0

        async def upload() -> None:
            nonlocal sent
            chunk = b"".join(line("a", n) for n in range(100))
            for _ in range(lines // 100):
                await send_chunk(client, chunk)
                sent += 100
            await client.send(b"0\r\n\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            before = -1
            with trio.fail_after(PATIENCE_SECONDS):
                while before != sent:
                    before = sent
                    await trio.sleep(0.3)
            assert sent < lines, "the kernel's buffers took everything: make the test larger"
            body = await client.until(b"\r\n0\r\n\r\n")
        assert body.count(b'"line":') == lines
        assert b'"line":%d,' % lines in body or b'"line":%d}' % lines in body


async def test_a_client_that_never_reads_is_cut_off(open_world):
    async with open_world(http={"request_seconds": 0.5}) as world, world.connect() as client:
        await begin(client)
        chunk = b"".join(line("a", n) for n in range(1000))

        async def upload() -> None:
            while True:
                await send_chunk(client, chunk)

        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.BrokenResourceError):
            await upload()
        await world.served.wait_no_connection()


async def test_a_room_is_not_kept_up_by_lines_whose_client_is_gone(open_world):
    class Engine(LongWayEngine):
        told = trio.Event()
        may_answer = trio.Event()

        async def append(self, room, drafts, retention):
            self.told.set()
            await self.may_answer.wait()
            return await super().append(room, drafts, retention)

    engine = Engine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine, room={"idle_seconds": 0.05}) as world:
        async with world.connect() as client:
            await begin(client)
            await send_chunk(client, line("a", 1) + line("a", 2))
            await engine.told.wait()
        await world.served.wait_no_connection()
        engine.may_answer.set()
        with trio.fail_after(PATIENCE_SECONDS):
            # Nobody is told when a room is put away.
            while world.rooms.statistics().rooms:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_client_that_goes_away_leaves_nothing(world):
    async with world.connect() as client:
        await begin(client)
        await send_chunk(client, line("a", 1))
        await read_result(client)
    await world.served.wait_no_connection()
    assert world.log.lines == []


async def test_silence_ends_a_batch(open_world):
    async with open_world(http={"request_seconds": 1.0}) as world, world.connect() as client:
        await begin(client)
        await send_chunk(client, line("a", 1) + b'{"room":')
        assert (await read_result(client))["offset"] == 1
        # The line that was begun cannot be completed any more.
        assert (await read_result(client))["error"]["code"] == "invalid_json"
        assert (await client.rest()).endswith(b"0\r\n\r\n")


async def test_a_stopping_server_answers_the_received_lines_of_a_batch(world):
    async with world.connect() as client:
        await begin(client)
        await send_chunk(client, line("a", 1))
        await read_result(client)
        world.draining.set()
        await send_chunk(client, line("a", 2))
        assert (await read_result(client))["offset"] == 2
        assert (await client.rest()).endswith(b"0\r\n\r\n")


async def test_other_content_types_are_refused(world):
    response = await world.client.post("/api/messages", content=b"", headers={"Content-Type": "text/csv"})
    assert response.status_code == 415
    assert "application/x-ndjson" in response.json()["detail"]
    assert response.json()["detail"].endswith("not text/csv")


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl"])
async def test_names_of_ndjson_are_taken(world, content_type):
    assert len(await send_batch(world, line("a", 1), **{"Content-Type": content_type})) == 1


async def test_an_empty_batch_has_an_empty_answer(world):
    assert await send_batch(world, b"") == []


async def test_httpx2_can_stream_both_ways(world):
    async def generate():
        for n in range(5):
            yield line("a", n)

    async with world.client.stream("POST", "/api/messages", content=generate()) as response:
        offsets = [json.loads(text)["offset"] async for text in response.aiter_lines()]
    assert offsets == [1, 2, 3, 4, 5]


class TasksStarted(trio.abc.Instrument):
    """Counts the tasks that are started."""

    def __init__(self):
        self.count = 0

    def task_spawned(self, _task):
        self.count += 1


async def test_lines_for_a_room_that_is_not_up_take_one_task_and_not_one_each(world):
    async def count_tasks(room):
        tasks = TasksStarted()
        trio.lowlevel.add_instrument(tasks)
        results = await send_batch(world, *[line(room, n) for n in range(1000)])
        trio.lowlevel.remove_instrument(tasks)
        assert len({result["offset"] for result in results}) == 1000
        return tasks.count

    await world.say("up", 1)
    assert await count_tasks("not up") <= await count_tasks("up") + 20


async def test_lines_that_wait_for_their_room_keep_their_order_among_those_of_others(open_world):
    class SlowStart(LongWayEngine):
        """Takes a while to tell where a room stands."""

        async def position(self, room):
            await trio.sleep(0.01)
            return await super().position(room)

    async with open_world(engine=SlowStart(wall_clock=lambda: 1.7e9, idempotency_seconds=300)) as world:
        lines = [line(f"room {n % 7}", n) for n in range(700)]
        results = await send_batch(world, *lines)
        assert [result["offset"] for result in results] == [n // 7 + 1 for n in range(700)]
        history = (await world.client.get("/api/rooms/room%203/messages")).json()["messages"]
        assert [message["n"] for message in history] == list(range(3, 700, 7))


async def test_lines_for_rooms_that_cannot_come_up_fail_alone(open_world):
    async with open_world(limits={"rooms": 1}) as world, world.connect() as ann:
        await ann.send(f"GET /api/rooms/a/events?token={world.token('ann')} HTTP/1.1\r\nHost: t\r\n\r\n")
        await ann.until(b'"joined"')
        results = await send_batch(world, line("a", 1), line("b", 1), line("b", 2), line("a", 2))
        assert [result.get("offset") for result in results] == [1, None, None, 2]
        assert [result["error"]["code"] for result in results[1:3]] == ["unavailable"] * 2
        assert results[1]["error"]["retry_after_ms"] > 0
