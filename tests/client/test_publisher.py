"""Publishing from services, over real sockets: to a real server, and to servers that fail on purpose."""

import inspect
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import attrs
import jwt
import pytest
import trio

from broker.client import (
    AsyncPublisher,
    ClientError,
    NotSentError,
    Position,
    Published,
    Publisher,
    RefusedError,
    Revoked,
    RoomSummary,
    UnavailableError,
    UserConnections,
    UserPage,
)
from tests.support.names import is_allowed, some_names
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET

PLACED = '{"room":"lobby","offset":1,"epoch":"e","members":0}'


DRIP = "drip"
DRIPPING = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
"""A server that sends its answer a byte at a time, for ever."""


class NoJitter(Random):
    def uniform(self, a: float, b: float) -> float:
        return 0.0


@attrs.define
class Scripted:
    """A server that answers one request after another as it is told, and keeps what was asked."""

    url: str
    answers: list[str]
    requests: list[str] = attrs.Factory(list)
    connections: int = 0

    def keys(self) -> set[str]:
        return {
            line.partition(": ")[2]
            for request in self.requests
            for line in request.split("\r\n")
            if line.lower().startswith("idempotency-key: ")
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        received = b""
        async for some in stream:
            received += some
            head, end, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].split() or [b"0"]
            if not end or len(body) < int(length[0]):
                continue
            self.requests.append(received.decode())
            received = b""
            answer = self.answers.pop(0)
            if not answer:
                return
            while answer == DRIP:
                await stream.send_all(b"a" if self.requests[-1] == "dripping" else DRIPPING)
                self.requests[-1] = "dripping"
                await trio.sleep(0.01)
            await stream.send_all(answer.encode())


def answer(status: str, body: str = PLACED, *headers: str) -> str:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines)


@asynccontextmanager
async def scripted(*answers: str) -> AsyncIterator[Scripted]:
    """Start a server; an empty answer closes the connection instead."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Scripted(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", list(answers))
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, server.serve, listeners)
            yield server
            nursery.cancel_scope.cancel()


class Threaded:
    """The synchronous publisher with the face of the other."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self._publisher = Publisher(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object, **options: object) -> object:
            method = getattr(self._publisher, name)
            return await trio.to_thread.run_sync(partial(method, *arguments, **options))

        return call

    async def __aenter__(self) -> "Threaded":
        self._publisher.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._publisher.__exit__(None, None, None)


Open = Callable[..., AsyncPublisher]


@pytest.fixture(params=[Threaded, AsyncPublisher])
def open_publisher(request: pytest.FixtureRequest) -> Open:
    """Make a publisher of either kind that does not wait between attempts."""

    def opened(url: str, **options: object) -> AsyncPublisher:
        options = {"timeout_seconds": PATIENCE_SECONDS, **options}
        return request.param(url, API_KEY, random=NoJitter(), **options)

    return opened


async def test_it_says_things_in_rooms(serve, open_publisher):
    async with serve() as served, open_publisher(served.url) as publisher, served.connect("/ws/lobby") as ann:
        epoch = (await ann.receive("joined"))["epoch"]
        first = await publisher.publish("lobby", {"type": "note", "n": 1})
        assert first == Published("lobby", 1, epoch, 1)
        assert (await ann.receive("note"))["n"] == 1
        fleeting = await publisher.publish("lobby", {"type": "note", "n": 2}, ephemeral=True)
        assert (fleeting.offset, fleeting.epoch) == (None, None)
        good, bad = await publisher.broadcast(["lobby", "a/b"], {"type": "note", "n": 3})
        assert good.published == Published("lobby", 2, epoch, 1)
        assert [(await ann.receive("note"))["n"] for _ in range(2)] == [2, 3]
        assert bad.error is not None
        assert bad.error.code == "invalid_message"


async def test_it_keeps_messages_from_some_and_tags_them(serve, open_publisher):
    async with (
        serve() as served,
        open_publisher(served.url) as publisher,
        served.connect("/ws/lobby") as ann,
        served.dial(
            f"/ws/lobby?token={served.token('bob')}&tags=%7B%22kind%22%3A%5B%22a%20goal%20%26%22%5D%7D"
        ) as follower,
    ):
        connection = (await ann.receive("joined"))["connection"]
        await follower.receive("joined")
        tags = {"kind": "a goal &"}
        await publisher.publish("lobby", {"type": "note", "n": 1}, exclude_connection=connection)
        await publisher.publish("lobby", {"type": "note", "n": 2}, tags=tags)
        await publisher.broadcast(
            ["lobby"], {"type": "note", "n": 3}, exclude_connection=connection, tags=tags
        )
        await publisher.broadcast(["lobby"], {"type": "note", "n": 4}, exclude_user="nobody")
        assert [(await ann.receive("note"))["n"] for _ in range(2)] == [2, 4]
        assert [(await follower.receive("note"))["n"] for _ in range(2)] == [2, 3]
        for options in ({"tags": {"kind": 1}}, {"tags": {"x" * 65: "x"}}, {"exclude_user": ""}):
            with pytest.raises(RefusedError, match=next(iter(options))):
                await publisher.publish("lobby", {"type": "note"}, **options)
        for options in ({"tags": {"kind": b"x"}}, {"exclude_user": 1}, {"exclude_connection": "\ud800"}):
            with pytest.raises(NotSentError):
                await publisher.publish("lobby", {"type": "note"}, **options)


async def test_the_same_key_is_said_once(serve, open_publisher):
    async with serve() as served, open_publisher(served.url) as publisher:
        for _ in range(2):
            published = await publisher.publish("lobby", {"type": "note"}, idempotency_key="order-5")
            assert published.offset == 1
        assert (await publisher.publish("lobby", {"type": "note"})).offset == 2


async def test_a_name_reaches_the_room_that_has_it_and_no_other(serve, open_publisher):
    async with serve() as served, open_publisher(served.url) as publisher:
        for name in some_names(150):
            if is_allowed(name):
                assert (await publisher.publish(name, {"type": "note"})).room == name
            else:
                with pytest.raises(NotSentError, match=r"^room: 1 to 128 characters"):
                    await publisher.publish(name, {"type": "note"})
        held = {info.room for info in await served.broker.rooms.list_everywhere(limit=1000)}
        assert held == {name for name in some_names(150) if is_allowed(name)}


async def test_what_is_refused_is_told_and_not_repeated(serve, open_publisher):
    async with serve() as served, open_publisher(served.url) as publisher:
        with pytest.raises(RefusedError, match="has a meaning in the protocol") as refused:
            await publisher.publish("lobby", {"type": "chat"})
        assert refused.value.code == "invalid_message"
    async with (
        scripted(answer("401 Unauthorized", "<html>")) as server,
        open_publisher(server.url) as publisher,
    ):
        with pytest.raises(RefusedError, match="status 401") as refused:
            await publisher.publish("lobby", {"type": "note"})
        assert refused.value.code == "http_401"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "status", ["429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Timeout"]
)
async def test_what_may_pass_is_tried_again_with_the_same_key(open_publisher, status):
    async with (
        scripted(answer(status), "", answer(status), answer("200 OK")) as server,
        open_publisher(server.url) as publisher,
    ):
        assert await publisher.publish("lobby", {"type": "note"}) == Published("lobby", 1, "e", 0)
        assert len(server.requests) == 4
        assert len(server.keys()) == 1
        assert server.connections == 2, "kept alive but for the one that was cut"


async def test_retry_after_is_waited_for(open_publisher):
    slow = answer("503 Unavailable", "", "Retry-After: 1")
    async with scripted(slow, answer("200 OK")) as server, open_publisher(server.url) as publisher:
        started = trio.current_time()
        await publisher.publish("lobby", {"type": "note"})
        assert trio.current_time() - started >= 1.0


async def test_it_gives_up_in_time_and_says_so(open_publisher):
    later = answer("503 Unavailable", '{"code":"unavailable","detail":"disk full"}', "Retry-After: 60")
    async with scripted(later) as server, open_publisher(server.url, timeout_seconds=15.0) as publisher:
        with pytest.raises(UnavailableError, match="disk full") as unavailable:
            await publisher.publish("lobby", {"type": "note"}, idempotency_key="k1")
        assert unavailable.value.retry_after_seconds == 60
        assert unavailable.value.idempotency_key == "k1"


async def test_nobody_there_is_unavailable(open_publisher):
    async with scripted() as server:
        pass
    async with open_publisher(server.url, timeout_seconds=0.2) as publisher:
        with pytest.raises(UnavailableError, match="no answer"):
            await publisher.publish("lobby", {"type": "note"})


async def test_a_silent_server_is_given_up(open_publisher):
    async with (
        scripted("HTTP/1.1 ", "HTTP/1.1 ") as server,
        open_publisher(server.url, timeout_seconds=0.1) as publisher,
    ):
        with pytest.raises(UnavailableError):
            await publisher.publish("lobby", {"type": "note"})


async def test_an_answer_without_end_is_given_up(open_publisher):
    async with scripted(DRIP, DRIP) as server, open_publisher(server.url, timeout_seconds=0.3) as publisher:
        with pytest.raises(UnavailableError, match="timed out"):
            await publisher.publish("lobby", {"type": "note"})


async def test_it_asks_all_that_the_api_has(serve, open_publisher):
    async with serve() as served, open_publisher(served.url) as publisher:
        async with served.connect("/ws/lobby") as ann:
            await ann.receive("joined")
            for number in range(3):
                last = await publisher.publish("lobby", {"type": "note", "n": number})
            assert (await publisher.user("ann")).is_online
            assert not (await publisher.user("bob")).is_online
            assert await publisher.online_users(prefix="a", limit=1) == UserPage(
                [UserConnections("ann", 1)], None, 0
            )
            room = await publisher.room("lobby")
            assert (room.room_size, room.users) == (1, [UserConnections("ann", 1)])
            assert (room.offset, room.epoch) == (last.offset, last.epoch)
            page = await publisher.rooms(limit=1)
            assert (page.rooms, page.cursor) == ([RoomSummary("lobby", 1, 3, last.epoch)], None)
            held = await publisher.history("lobby", limit=2, reverse=True)
            assert [message["n"] for message in held.messages] == [2, 1]
            assert (held.position, held.recovered) == (Position(last.epoch, 3), None)
            missed = await publisher.history("lobby", since=Position(last.epoch, 2))
            assert ([message["n"] for message in missed.messages], missed.recovered) == ([2], True)
            assert await publisher.delete_history("lobby") == 3
            assert (await publisher.history("lobby")).messages == []
            assert await publisher.remove("lobby", "ann") == 1
            assert await publisher.disconnect("nobody") == 0
        async with served.connect("/ws", "bob ?#%|é") as bob:
            name = "bob ?#%|é"
            await bob.ask("pong", type="ping")
            assert (await publisher.user(name)).connections == 1
            assert await publisher.disconnect(name) == 1
            assert (await bob.close_code())[0] == 4004
        end = time.time() + 3600
        token = jwt.encode({"sub": "cid", "jti": "c1"}, SECRET)
        async with served.dial(f"/ws?token={token}") as cid, served.connect("/ws", "dan") as dan:
            for client in (cid, dan):
                await client.ask("pong", type="ping")
            assert await publisher.revoke_token("c1", expires_at=end) == Revoked(1, end)
            assert await publisher.revoke_user("dan", issued_before=end, expires_at=end) == Revoked(1, end)
            for client in (cid, dan):
                assert await client.close_code() == (4001, "token was revoked")


@pytest.mark.parametrize(
    ("method", "arguments", "told"),
    [
        ("room", {"room": "a/b"}, "room: 1 to 128"),
        ("room", {"room": b"a"}, "room: a text, not bytes"),
        ("history", {"room": "a", "since": 5}, "since: a Position, not int"),
        ("history", {"room": "a", "limit": "5"}, "limit: a whole number, not str"),
        ("rooms", {"limit": True}, "limit: a whole number, not bool"),
        ("rooms", {"prefix": None}, "prefix: a text, not NoneType"),
        ("online_users", {"cursor": 1}, "cursor: a text, not int"),
        ("online_users", {"prefix": "\ud800"}, "must be Unicode text"),
        ("user", {"user_id": ".."}, "user_id: the id of a user"),
        ("user", {"user_id": ""}, "user_id: the id of a user"),
        ("disconnect", {"user_id": "a/b"}, "user_id: the id of a user"),
        ("remove", {"room": "a", "user_id": "\ud800"}, "user_id: must be Unicode text"),
        ("revoke_token", {"jti": 5}, "jti: a text, not int"),
        ("revoke_token", {"jti": "\ud800"}, "jti: must be Unicode text"),
        ("revoke_token", {"jti": "a", "expires_at": float("nan")}, "expires_at: Unix seconds, not float"),
        ("revoke_user", {"user_id": None}, "user_id: a text, not NoneType"),
        ("revoke_user", {"user_id": "a", "issued_before": "1"}, "issued_before: Unix seconds, not str"),
        ("revoke_user", {"user_id": "a", "expires_at": True}, "expires_at: Unix seconds, not bool"),
        ("delete_history", {"room": ".."}, "room: "),
    ],
)
async def test_what_cannot_be_asked_is_told_at_once(open_publisher, method, arguments, told):
    async with open_publisher("http://127.0.0.1:9") as publisher:
        with pytest.raises(NotSentError, match=told):
            await getattr(publisher, method)(**arguments)


async def test_what_is_no_greenroom_is_told(open_publisher):
    for call in (
        lambda p: p.room("a"),
        lambda p: p.user("a"),
        lambda p: p.disconnect("a"),
        lambda p: p.rooms(),
    ):
        async with scripted(answer("200 OK", "[]")) as server, open_publisher(server.url) as publisher:
            with pytest.raises(ClientError, match="no Greenroom server"):
                await call(publisher)


async def test_a_look_that_fails_for_a_moment_is_repeated(open_publisher):
    body = '{"user_id":"a","connections":2,"silent_nodes":0,"later":1}'
    async with (
        scripted("", answer("503 Unavailable"), answer("200 OK", body)) as server,
        open_publisher(server.url) as publisher,
    ):
        assert (await publisher.user("a")).connections == 2
        assert server.keys() == set()


def test_both_publishers_have_the_same_calls():
    def calls(kind: type) -> dict[str, list[inspect.Parameter]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name.removeprefix("a") if name == "aclose" else name: list(
                inspect.signature(method).parameters.values()
            )
            for name, method in methods
            if not name.startswith("_") or name == "__init__"
        }

    assert calls(Publisher) == calls(AsyncPublisher)
    assert inspect.signature(Publisher).parameters["timeout_seconds"].default == 2.0


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_limit_is_above_0(seconds):
    with pytest.raises(NotSentError, match="timeout_seconds"):
        Publisher("http://127.0.0.1:9", API_KEY, timeout_seconds=seconds)


def test_an_address_is_checked_at_once():
    with pytest.raises(ValueError, match="no http"):
        Publisher("localhost:8000", API_KEY)


async def test_it_is_not_led_elsewhere(open_publisher):
    away = answer("307 Temporary Redirect", "", "Location: http://127.0.0.1:1/")
    async with scripted(away) as server, open_publisher(server.url) as publisher:
        with pytest.raises(RefusedError, match="307"):
            await publisher.publish("lobby", {"type": "note"})


IMPORTED = """
import sys
import broker
broker.Publisher, broker.AsyncPublisher
from broker.client import RefusedError, UnavailableError
names = {name.partition(".")[0] for name in sys.modules}
print(sorted(names & {"actors", "quart", "hypercorn", "trio_websocket", "wsproto", "werkzeug", "flask", "click",
    "rich", "prometheus_client", "cryptography", "jwt", "hiredis", "quart_schema", "pydantic", "sqlite3"}))
print(sorted(name for name in sys.modules if name.startswith("broker.") and not name.startswith("broker.client")))
print("asyncio" in sys.modules)
"""
"""As a Django process does it."""

# httpcore2 imports trio where there is one; here there is none.
WITHOUT_TRIO = f"""
import sys
sys.modules["trio"] = None
from broker.client import Publisher, UnavailableError
with Publisher("http://127.0.0.1:1", "{API_KEY}", timeout_seconds=0.5) as publisher:
    try:
        publisher.publish("lobby", {{"type": "note"}})
    except UnavailableError as error:
        print(error)
"""


def python(program: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_importing_publishers_imports_nothing_of_the_server():
    packages, modules, _ = python(IMPORTED)
    assert packages == "[]"
    assert modules == str(
        ["broker.clocks", "broker.errors", "broker.lazy_names", "broker.model", "broker.portable_json"]
    )


def test_the_synchronous_publisher_needs_no_trio():
    assert "connection refused" in python(WITHOUT_TRIO)[0]


def test_the_other_runs_on_asyncio():
    program = f"""
import asyncio
from broker.client import AsyncPublisher, UnavailableError
async def main():
    async with AsyncPublisher("http://127.0.0.1:1", "{API_KEY}", timeout_seconds=0.5) as publisher:
        try:
            await publisher.publish("lobby", {{"type": "note"}})
        except UnavailableError as error:
            print(error)
asyncio.run(main())
"""
    (told,) = python(program)
    assert "gave up after" in told
    assert "after 1 attempts" not in told, "it waited and tried again"
