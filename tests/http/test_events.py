"""A room as server-sent events, over real sockets."""

import json
import re

import attrs
import pytest
import trio
import trio.testing

from actors import Reply
from broker.errors import CloseCode, EngineUnavailableError
from broker.http.api.events import EventStream
from broker.http.api.sse import event_stream_protocol
from broker.model import Claims
from broker.rooms.messages import Join
from tests.http.conftest import wait_until
from tests.support.engines import LongWayEngine
from tests.support.members import Person, framed
from tests.support.patience import PATIENCE_SECONDS


@attrs.define
class Listener:
    """Reads an event stream as a browser does."""

    client: object
    head: dict
    buffer: bytearray = attrs.Factory(bytearray)
    last_id: str = ""
    retry_ms: int | None = None
    heartbeats: int = 0
    is_ended: bool = False

    async def read_chunk(self) -> None:
        size = int(await self.client.until(b"\r\n"), 16)
        chunk = await self.client.until(b"\r\n") if not size else b""
        while len(chunk) < size + 2:
            chunk += await self.client.until(b"\r\n")
        self.buffer += chunk[:-2]
        self.is_ended = not size

    async def event(self) -> tuple[str, dict]:
        """Return the next event: its type and its data."""
        while True:
            while (end := self.buffer.find(b"\n\n")) < 0:
                assert not self.is_ended, "the stream has ended"
                await self.read_chunk()
            block = bytes(self.buffer[:end]).decode()
            del self.buffer[: end + 2]
            fields = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                fields[name] = value
            self.last_id = fields.get("id", self.last_id)
            self.retry_ms = int(fields["retry"]) if "retry" in fields else self.retry_ms
            self.heartbeats += "" in fields
            if "data" in fields:
                return fields.get("event", "message"), json.loads(fields["data"])

    async def message(self) -> dict:
        kind, data = await self.event()
        assert kind == "message", (kind, data)
        return data

    async def end(self) -> None:
        """Check that the stream ends well."""
        while not self.is_ended:
            await self.read_chunk()
        assert b"data" not in self.buffer


async def listen(client, room="lobby", *headers, query=""):
    await client.request("GET", f"/api/rooms/{room}/events{query}", *headers)
    status, head = await client.head()
    assert status == 200, await client.rest()
    return Listener(client, head)


async def listen_as(client, token, room="lobby", query=""):
    await client.send(
        f"GET /api/rooms/{room}/events{query} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    status, head = await client.head()
    assert status == 200, await client.rest()
    return Listener(client, head)


async def wait_size(world, size, room="lobby"):
    await world.rooms.inspect(room)
    state = world.rooms._states[room]
    await wait_until(lambda: state.roster.size == size)


async def wait_unheard(world, room="lobby"):
    """Wait until nobody is in the room and nobody listens."""
    state = world.rooms._states[room]
    await wait_until(lambda: state.roster.is_empty)


async def wait_no_connections(world):
    with trio.fail_after(PATIENCE_SECONDS):
        await world.connections.wait_empty()


@pytest.mark.parametrize("can", [None, ["join"], ["join", "chat", "presence"], ["join", "history"]])
async def test_a_client_token_needs_history_to_recover(world, can):
    epoch = (await world.say("lobby", 1))["epoch"]
    await world.say("lobby", 2)
    expected = can is None or "history" in can
    bearer = "Authorization: Bearer " + world.token(**({} if can is None else {"can": can}))
    for header, query in [(f"Last-Event-ID: {epoch}:0", ""), ("X: y", f"?last_event_id={epoch}:0")]:
        async with world.connect() as client:
            await client.send(
                f"GET /api/rooms/lobby/events{query} HTTP/1.1\r\nHost: t\r\n{bearer}\r\n{header}\r\n\r\n"
            )
            await client.head()
            listener = Listener(client, {})
            joined = await listener.message()
            assert (joined["recovered"], joined["offset"]) == (expected, 2)
            behind = [await listener.message() for _ in range(3 if expected else 1)]
            assert [message.get("n") for message in behind] == ([1, 2, None] if expected else [None])
            assert behind[-1]["type"] == "user_joined"


async def test_the_first_event_is_joined_and_messages_follow(world):
    async with world.connect() as client:
        listener = await listen(client)
        assert listener.head["content-type"] == "text/event-stream"
        assert listener.head["cache-control"] == "no-store, no-transform"
        assert listener.head["x-accel-buffering"] == "no"
        joined = await listener.message()
        assert joined["type"] == "joined"
        assert 1000 <= listener.retry_ms <= 3000
        placed = await world.say("lobby", 1)
        message = await listener.message()
        assert (message["type"], message["n"], message["offset"]) == ("note", 1, 1)
        assert listener.last_id == f"{placed['epoch']}:1"


async def test_a_last_event_id_recovers_the_missed_events(world):
    async with world.connect() as client:
        listener = await listen(client)
        await listener.message()
        await world.say("lobby", 1)
        await listener.message()
        last_id = listener.last_id
    for number in (2, 3):
        await world.say("lobby", number)
    for headers, query in [([f"Last-Event-ID: {last_id}"], ""), ([], f"?last_event_id={last_id}")]:
        async with world.connect() as client:
            listener = await listen(client, "lobby", *headers, query=query)
            joined = await listener.message()
            assert joined["recovered"] is True
            assert [(await listener.message())["n"] for _ in range(2)] == [2, 3]
            await world.say("other", 1)


async def test_a_stream_begins_with_the_newest_messages_and_returns_to_where_it_was(world):
    for number in range(1, 5):
        await world.say("lobby", number)
    async with world.connect() as client:
        listener = await listen(client, query="?last=2")
        assert (await listener.message())["recovered"] is False
        assert [(await listener.message())["n"] for _ in range(2)] == [3, 4]
        last_id = listener.last_id
    await world.say("lobby", 5)
    async with world.connect() as client:
        # A browser asks for the same address again.
        listener = await listen(client, "lobby", f"Last-Event-ID: {last_id}", query="?last=2")
        assert (await listener.message())["recovered"] is True
        assert (await listener.message())["n"] == 5
    for query in ("last=0", "last=x", "last=", f"last=1&last_event_id={last_id}"):
        async with world.connect() as client:
            await client.request("GET", f"/api/rooms/lobby/events?{query}")
            assert (await client.head())[0] == 400
    async with world.connect() as client:
        token = world.token(can=["join"])
        await client.send(f"GET /api/rooms/lobby/events?last=2&token={token} HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await client.head())[0] == 403


async def test_a_client_that_received_only_joined_recovers_as_well(world):
    async with world.connect() as client:
        listener = await listen(client)
        await listener.message()
        last_id = listener.last_id
    await world.say("lobby", 1)
    async with world.connect() as client:
        listener = await listen(client, "lobby", f"Last-Event-ID: {last_id}")
        assert (await listener.message())["recovered"] is True
        assert (await listener.message())["n"] == 1


@pytest.mark.parametrize("last_id", ["gone:1", "nonsense", ""])
async def test_a_position_that_is_gone_is_told(world, last_id):
    await world.say("lobby", 1)
    async with world.connect() as client:
        listener = await listen(client, "lobby", f"Last-Event-ID: {last_id}")
        joined = await listener.message()
        assert joined["recovered"] is False
        assert listener.last_id == f"{joined['epoch']}:1"


async def test_a_token_makes_a_member_and_the_key_listens_unseen(world):
    async with world.connect() as unseen, world.connect() as seen:
        quiet = await listen(unseen)
        assert (await quiet.message())["room_size"] == 0
        await listen_as(seen, world.token("ann"))
        assert (await quiet.message())["user_id"] == "ann"
        assert (await world.rooms.inspect("lobby")).users == (("ann", 1),)
        assert (await world.say("lobby", 1))["members"] == 1
    await wait_size(world, 0)
    await wait_unheard(world)
    await wait_no_connections(world)


async def test_a_stream_shows_its_info_and_lists_the_members(world):
    async with world.connect() as first, world.connect() as second:
        ann = await listen_as(first, world.token("ann", info={"name": "Ann"}), query="?presence=user")
        joined = await ann.message()
        told = {"user_id": "ann", "connections": 1, "info": {"name": "Ann"}}
        assert (joined["users"], bool(joined["connection"])) == ([told], True)
        eve = await listen(second, query="?presence=connection")
        shown = {"user_id": "ann", "connection": joined["connection"], "info": {"name": "Ann"}}
        assert (await eve.message())["connections"] == [shown]
        for by, field, expected in [
            ("user", "users", [told]),
            ("connection", "connections", [shown]),
            ("count", "user_count", 1),
        ]:
            details = (await world.client.get(f"/api/rooms/lobby?by={by}")).json()
            assert (details["room_size"], details[field]) == (1, expected)
        rooms = (await world.client.get("/api/users/ann")).json()["rooms"]
        assert rooms == [{"room": "lobby", "connections": 1}]
    await wait_size(world, 0)
    refused = await world.client.get(
        "/api/rooms/lobby/events?presence=user",
        headers={"Authorization": f"Bearer {world.token('ann', can=['join'])}"},
    )
    assert refused.status_code == 403
    assert (await world.client.get("/api/rooms/lobby?by=name")).status_code == 400


async def test_a_token_may_be_in_the_address(world):
    async with world.connect() as client:
        await client.send(f"GET /api/rooms/lobby/events?token={world.token()} HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await client.head())[0] == 200
    assert world.log.lines == []


async def test_other_tokens_are_refused(world):
    world.client.headers.clear()
    expired = world.token(ttl_seconds=1)
    world.clock[0] += 2
    for query in ["", f"?token={expired}", "?token=junk", f"?token={world.token()}x"]:
        response = await world.client.get(f"/api/rooms/lobby/events{query}")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    headers = {"Authorization": f"Bearer {world.token('ann')}"}
    response = await world.client.get(f"/api/rooms/lobby/events?token={world.token('bob')}", headers=headers)
    assert response.status_code == 401


async def test_a_token_opens_only_its_rooms(world):
    token = world.token("ann", rooms=["team.*"])
    for room, status in [("lobby", 403), ("user_bob", 403)]:
        response = await world.client.get(
            f"/api/rooms/{room}/events", headers={"Authorization": f"Bearer {token}"}
        )
        assert response.status_code == status
        assert response.json()["code"] == "forbidden"
    async with world.connect() as client:
        await listen_as(client, token, "team.a")


async def test_the_end_of_a_token_ends_the_stream(world):
    async with world.connect() as client:
        listener = await listen_as(client, world.token("ann", ttl_seconds=60))
        await listener.message()
        for connection in world.connections:
            connection.check(0, world.clock[0] + 59)
        assert len(world.connections) == 1
        for connection in world.connections:
            connection.check(0, world.clock[0] + 60)
        assert (await listener.message())["type"] == "user_joined"
        assert await listener.event() == ("close", {"code": 4101, "reason": "token expired"})
        await listener.end()
    await wait_size(world, 0)


async def test_the_key_never_runs_out(world):
    async with world.connect() as client:
        listener = await listen(client)
        await listener.message()
        for connection in world.connections:
            connection.check(1e9, 1e12)
        await world.say("lobby", 1)
        assert (await listener.message())["n"] == 1


async def test_a_user_removed_from_the_room_is_told_and_the_stream_ends(world):
    async with world.connect() as client:
        listener = await listen_as(client, world.token("ann"))
        await listener.message()
        await listener.message()
        assert (await world.client.delete("/api/rooms/lobby/users/ann")).json() == {"removed": 1}
        assert (await listener.message())["type"] == "left"
        assert (await listener.event())[1]["code"] == CloseCode.REMOVED
        await listener.end()


async def test_a_removed_user_s_streams_end(world):
    async with world.connect() as ann, world.connect() as key:
        listener = await listen_as(ann, world.token("ann"))
        other = await listen(key)
        assert (await other.message())["type"] == "joined"
        assert (await world.client.delete("/api/users/ann")).json() == {"disconnected": 1}
        await listener.message()
        await listener.message()
        assert (await listener.event())[1]["code"] == CloseCode.REMOVED
        await listener.end()
        assert (await other.message())["type"] == "user_left"


async def test_a_stopping_server_sends_streams_away(world):
    async with world.connect() as client:
        listener = await listen(client)
        await listener.message()
        for connection in world.connections:
            connection.send_reconnect(4321)
        assert await listener.message() == {"type": "reconnect", "after_ms": 4321}
        await listener.end()
        assert listener.buffer == b"retry:4321\n\n"
        world.draining.set()
        response = await world.client.get("/api/rooms/lobby/events")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"


async def test_a_silent_room_is_heard_to_be_alive(open_world):
    settings = {"heartbeat_seconds": 0.05, "http": {"request_seconds": 1.0}}
    async with open_world(**settings) as world, world.connect() as client:
        listener = await listen(client)
        await listener.message()
        await trio.sleep(1.5)
        await world.say("lobby", 1)
        assert (await listener.message())["n"] == 1
        assert listener.heartbeats >= 5


async def test_a_slow_reader_leaves_the_room_at_once_and_can_return(open_world):
    settings = {
        "websocket": {"outbox_bytes": 200_000},
        "http": {"body_bytes": 1_000_000},
        "history": {"bytes": 1 << 28},
    }
    async with open_world(**settings) as world, world.connect() as client:
        listener = await listen_as(client, world.token("ann"))
        await wait_size(world, 1)
        sent, members = 0, 1
        with trio.fail_after(PATIENCE_SECONDS):
            while members:
                sent += 1
                message = {"type": "x", "n": sent, "text": "x" * 90_000}
                response = await world.client.post("/api/rooms/lobby/messages", json=message)
                members = response.json()["members"]
        await wait_unheard(world)
        assert world.rooms.statistics().deliveries_lost >= 1
        # What was already being written comes, then the end, and what waited is left for the next time.
        assert (await listener.message())["type"] == "joined"
        assert (await listener.message())["type"] == "user_joined"
        heard = 0
        while (event := await listener.event())[0] == "message":
            heard += 1
            assert event[1]["n"] == heard
        assert event == ("close", {"code": 4108, "reason": "reads too slowly"})
        await listener.end()
        assert heard < sent - 2
        async with world.connect() as again:
            back = await listen(again, "lobby", f"Last-Event-ID: {listener.last_id}")
            assert (await back.message())["recovered"] is True
            assert (await back.message())["n"] == heard + 1


async def test_a_client_that_goes_away_leaves_the_room(world):
    async with world.connect() as client:
        await listen_as(client, world.token("ann"))
        await wait_size(world, 1)
    await wait_size(world, 0)
    await wait_no_connections(world)
    assert world.log.lines == []


async def test_cancelling_the_server_leaves_the_room(world):
    async with world.connect() as client:
        await listen_as(client, world.token("ann"))
        await wait_size(world, 1)
        world.served.cancel_connections()
        await wait_size(world, 0)


async def test_a_client_that_goes_away_while_it_joins_leaves_the_room(open_world):
    class SlowEngine(LongWayEngine):
        reads = 0

        async def read(self, room, **options):
            self.reads += 1
            await trio.sleep(0.2)
            return await super().read(room, **options)

    engine = SlowEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine) as world:
        epoch = (await world.say("lobby", 1))["epoch"]
        async with world.connect() as client:
            await client.request("GET", "/api/rooms/lobby/events", f"Last-Event-ID: {epoch}:0")
            await wait_until(lambda: engine.reads > 0)
        await wait_unheard(world)
        await wait_no_connections(world)


async def test_a_user_has_only_so_many_streams(open_world):
    async with (
        open_world(limits={"connections_per_user": 1}) as world,
        world.connect() as first,
        world.connect() as second,
        world.connect() as third,
    ):
        await listen_as(first, world.token("ann"))
        headers = {"Authorization": f"Bearer {world.token('ann')}"}
        response = await world.client.get("/api/rooms/lobby/events", headers=headers)
        assert response.status_code == 429
        # The API key is no user.
        await listen(second)
        await listen(third)


async def test_an_engine_that_is_away_is_told_before_the_stream(open_world):
    class Engine(LongWayEngine):
        async def position(self, room):
            raise EngineUnavailableError("away")

    async with open_world(engine=Engine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)) as world:
        response = await world.client.get("/api/rooms/lobby/events")
        assert response.status_code == 503
        await wait_no_connections(world)


ACCEPT = "Accept: text/event-stream"


class AwayEngine(LongWayEngine):
    async def position(self, room):
        raise EngineUnavailableError("away")


async def drain(world):
    world.draining.set()


async def fill(world):
    for _ in range(world.services.settings.limits.connections_per_user):
        assert world.connections.add(EventStream(event_stream_protocol(), Claims("ann"), 1000, 0.0))


async def fill_room(world):
    member = Person("bob")
    reply = Reply()
    ref = await world.rooms.tell("lobby", Join(member, None, None, reply))
    await ref.wait_reply(reply)


PASSING = {
    "engine away": (
        {"engine": AwayEngine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)},
        None,
        1013,
        503,
    ),
    "draining": ({}, drain, 1013, 503),
    "room full": ({"room": {"max_members": 1}}, fill_room, 4129, 429),
    "user full": ({"limits": {"connections_per_user": 1}}, fill, 4129, 429),
}


@pytest.mark.parametrize("case", PASSING)
async def test_a_browser_s_event_source_comes_back_after_a_refusal_that_passes(open_world, case):
    options, prepare, code, status = PASSING[case]
    async with open_world(**options) as world:
        if prepare is not None:
            await prepare(world)
        bearer = f"Authorization: Bearer {world.token('ann')}"
        answers = {
            ACCEPT: 200,
            "Accept: text/html, text/event-stream;q=0.5": 200,
            "Accept: */*": status,
            "Accept: application/json": status,
            "Accept: text/event-stream;q=0": status,
        }
        for accept, expected in answers.items():
            async with world.connect() as client:
                await client.send(
                    f"GET /api/rooms/lobby/events HTTP/1.1\r\nHost: t\r\n{bearer}\r\n{accept}\r\n\r\n"
                )
                answered, head, body = await client.response()
                assert answered == expected, accept
                if answered == 200:
                    # Any other status, or another type, ends an EventSource for good.
                    assert head["content-type"].startswith("text/event-stream")
                    retry, kind, data = re.fullmatch(
                        r"retry:(\d+)\n\nevent:(\w+)\ndata:(.*)\n\n", body.decode()
                    ).groups()
                    assert (kind, json.loads(data)["code"]) == ("close", code)
                    assert int(retry) >= 1000


async def test_a_lasting_refusal_ends_an_event_source(world):
    for headers, status in [("", 401), (f"Authorization: Bearer {world.token('ann', rooms=['x'])}\r\n", 403)]:
        async with world.connect() as client:
            await client.send(f"GET /api/rooms/lobby/events HTTP/1.1\r\nHost: t\r\n{headers}{ACCEPT}\r\n\r\n")
            assert (await client.head())[0] == status


async def test_nobody_on_the_way_may_compress_or_collect_events(world):
    async with world.connect() as client:
        head = (await listen(client)).head
        assert {"no-store", "no-transform"} <= {part.strip() for part in head["cache-control"].split(",")}
        assert head["x-accel-buffering"] == "no"


async def test_a_head_request_joins_nothing(world):
    response = await world.client.head("/api/rooms/lobby/events")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert len(world.connections) == 0


async def test_a_room_that_is_given_up_ends_its_streams(open_world):
    class Engine(LongWayEngine):
        async def append(self, room, drafts, retention):
            raise ZeroDivisionError

    engine = Engine(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
    async with open_world(engine=engine) as world, world.connect() as client:
        listener = await listen(client)
        await listener.message()
        for _ in range(50):
            response = await world.client.post("/api/rooms/lobby/messages", json={"type": "x"})
            assert response.status_code == 503
            if not len(world.connections):
                break
        assert (await listener.event())[1]["code"] == CloseCode.INTERNAL_ERROR
        await listener.end()


async def test_head_is_answered_and_does_not_listen(world):
    for token, status in ((world.token(), 200), (world.token(rooms=["other"]), 403)):
        response = await world.client.head(
            "/api/rooms/lobby/events", headers={"Authorization": f"Bearer {token}"}
        )
        assert (response.status_code, response.content) == (status, b"")
    assert len(world.connections) == 0
    assert world.log.lines == []


async def test_a_user_who_starts_too_many_rooms_gets_a_retry_delay(open_world):
    limits = {"user_rooms_burst": 2, "user_rooms_per_second": 0.01}
    async with open_world(limits=limits) as world:
        token = world.token("ann")
        for number in range(2):
            async with world.connect() as client:
                await client.send(
                    f"GET /api/rooms/r{number}/events?token={token} HTTP/1.1\r\nHost: t\r\n\r\n"
                )
                await client.until(b'"joined"')
        # Each on a connection of its own, and after the others have ended.
        response = await world.client.get(
            "/api/rooms/r2/events", headers={"Authorization": f"Bearer {token}"}
        )
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
        assert 98 < int(response.headers["Retry-After"]) <= 100
        assert (await world.client.get("/api/rooms/r2")).status_code == 200, "the API key has no such bound"


async def test_a_node_full_of_rooms_answers_503(open_world):
    async with open_world(limits={"rooms": 1}) as world, world.connect() as client:
        await client.send(f"GET /api/rooms/a/events?token={world.token('ann')} HTTP/1.1\r\nHost: t\r\n\r\n")
        await client.until(b'"joined"')
        for method, path, body in (
            ("POST", "/api/rooms/b/messages", {"type": "note"}),
            ("GET", "/api/rooms/b/events", None),
        ):
            response = await world.client.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert response.headers["Retry-After"] == "1"
        # To look at a room takes no place.
        for method, path in (("GET", "messages"), ("GET", ""), ("DELETE", "users/ann")):
            response = await world.client.request(method, f"/api/rooms/b/{path}".rstrip("/"))
            assert response.status_code == 200
        assert (await world.client.post("/api/rooms/a/messages", json={"type": "note"})).status_code == 200


async def test_no_stream_that_has_ended_is_backlog_whatever_its_room_still_sends(world):
    async with world.served.connect() as client:
        await listen(client)
        (stream,) = world.connections
    await wait_until(lambda: not len(world.connections))
    # As a room does until it comes to the leave in its mailbox.
    assert stream.outbox.offer(framed(b"late"))
    assert world.connections.backlog.total_bytes == 0
