"""The link and the subscriptions, driven with bytes that no Redis would say: a lost connection at most, and then another one."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random

import attrs
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.engine.redis.client.address import Address
from broker.engine.redis.client.connection import Connection, Endpoint, _greet, open_connection
from broker.engine.redis.client.health import Health
from broker.engine.redis.client.link import Link
from broker.engine.redis.client.reconnector import Reconnector
from broker.engine.redis.client.subscriptions import Subscriptions
from broker.engine.redis.replies import parse_count
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import stdlib_log
from tests.engine.redis.opened import KEEP, Ear, draft, opened, wait_ready
from tests.support.redis import RedisServer

HEADERS = [
    b"*2",
    b"*-1",
    b"*0",
    b"$2",
    b"$-1",
    b"$5",
    b":1",
    b":x",
    b"+OK",
    b"-ERR no",
    b"-READONLY x",
    b"-NOSCRIPT x",
]
HEADERS += [
    b">2",
    b"%1",
    b"~1",
    b"#t",
    b",1.5",
    b"_",
    b"|1",
    b"*2147483647",
    b"$2147483647",
    b"%99999999",
    b"(1",
    b"=5",
]
pieces = st.sampled_from([header + b"\r\n" for header in HEADERS]) | st.sampled_from(
    [b"$7\r\nmessage\r\n", b"$9\r\nsubscribe\r\n", b"$4\r\nroom\r\n", b"\r\n", b"*3\r\n"]
)
speech = st.lists(st.lists(pieces | st.binary(max_size=12), max_size=8).map(b"".join), max_size=4)
"""Chunks of bytes, as they come."""


@attrs.define(eq=False)
class Mouth(trio.abc.Stream):
    """A stream on which chunks come, and then the end."""

    chunks: list[bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(0.01)
        return self.chunks.pop(0) if self.chunks else b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class NoListener:
    def arrived(self, payload: bytes) -> None:
        pass

    def fell_behind(self) -> None:
        pass


def reconnector_of(speeches: Sequence[Sequence[bytes]], part: str = "requests") -> Reconnector:
    """Return what connects to each of the speeches in turn, and then to nothing."""
    waiting = [Connection(Mouth([chunk for chunk in chunks if chunk])) for chunks in speeches]

    async def dial() -> Connection:
        await trio.lowlevel.checkpoint()
        if not waiting:
            raise EngineUnavailableError("nobody there")
        return waiting.pop(0)

    return Reconnector(part, dial, Health("server", lambda: 0.0, stdlib_log()), Random(1))


def run_for_a_while(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                await main(nursery)
                await trio.sleep_forever()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(deadline=None)
@given(speeches=st.lists(speech, max_size=4))
@example(speeches=[[b":1\r\n:1\r\n"], [b":1\r\n"]])
@example(speeches=[[b"*2", b"147483647\r\n"], [b":1\r\n"]])
@example(speeches=[[b"-READONLY x\r\n"], [b":1\r\n"]])
def test_a_link_outlives_any_bytes(speeches: list[list[bytes]]) -> None:
    answers: list[object] = []

    async def main(nursery: trio.Nursery) -> None:
        link = Link(
            reconnector_of(speeches),
            EngineUnavailableError("not yet"),
            timeout_seconds=5.0,
            pending_bytes=1000,
            on_other_server=lambda: None,
        )
        nursery.start_soon(link.run)

        async def ask() -> None:
            for _ in range(10):
                with suppress(EngineUnavailableError):
                    answers.append(await link.request("PUBLISH", "a", "b", parse=parse_count))
                await trio.sleep(0.1)

        for _ in range(3):
            nursery.start_soon(ask)

    run_for_a_while(main)
    assert all(type(count) is int and count >= 0 for count in answers)


@settings(deadline=None)
@given(speeches=st.lists(speech, max_size=4))
@example(speeches=[[b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n" * 3]])
@example(speeches=[[b"*3\r\n$7\r\nmessage\r\n*0\r\n*0\r\n"]])
@example(speeches=[[b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"]])
def test_a_feed_outlives_any_bytes(speeches: list[list[bytes]]) -> None:
    heard: list[object] = []

    class Listener:
        def arrived(self, payload: bytes) -> None:
            heard.append(payload)

        def fell_behind(self) -> None:
            pass

    async def main(nursery: trio.Nursery) -> None:
        subscriptions = Subscriptions(reconnector_of(speeches))
        subscriptions.keep_subscribed("kept", Listener())
        nursery.start_soon(subscriptions.run)
        for _ in range(10):
            with suppress(EngineUnavailableError), trio.move_on_after(1):
                await subscriptions.subscribe("room", Listener())
            await trio.sleep(0.1)

    run_for_a_while(main)
    assert all(type(payload) is bytes for payload in heard)


@settings(deadline=None)
@given(chunks=speech)
@example(chunks=[b"*2\r\n$7\r\nversion\r\n$1\r\n\xb2\r\n"])
@example(chunks=[b"*2\r\n$7\r\nversion\r\n$5\r\n7.x.9\r\n"])
@example(chunks=[b"*2\r\n*0\r\n$1\r\n9\r\n"])
def test_a_greeting_is_good_or_the_connection_is_lost(chunks: list[bytes]) -> None:
    async def main(nursery: trio.Nursery) -> None:
        endpoint = Endpoint(Address("localhost"), None, "the-password", 0, None, 5.0)
        with suppress(EngineUnavailableError, ConfigurationError):
            await _greet(Connection(Mouth([chunk for chunk in chunks if chunk])), endpoint)

    run_for_a_while(main)


CONFIRMED = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nkept\r\n:1\r\n"
NO_SERVER_OF_OURS = [
    b"",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$2\r\nOK\r\n",
    b"*1\r\n",
    b"*3\r\n:1\r\n:1\r\n:1\r\n",
]


@pytest.mark.parametrize(
    ("part", "answer", "good"),
    [
        *(("requests", answer, b":1\r\n") for answer in NO_SERVER_OF_OURS),
        *(("feed", answer, CONFIRMED) for answer in NO_SERVER_OF_OURS),
        ("feed", b"-NOPERM No permissions to access a channel\r\n", CONFIRMED),
        ("feed", CONFIRMED.replace(b"kept", b"room"), CONFIRMED),
    ],
)
def test_a_server_that_only_greets_well_is_one_trouble(
    caplog: pytest.LogCaptureFixture, part: str, answer: bytes, good: bytes
) -> None:
    """Five connections are refused, or lost, after the greeting; the sixth is answered as it should, and then lost."""
    caplog.set_level("INFO")

    async def main(nursery: trio.Nursery) -> None:
        reconnector = reconnector_of([[answer]] * 5 + [[good]], part)
        if part == "feed":
            subscriptions = Subscriptions(reconnector)
            subscriptions.keep_subscribed("kept", NoListener())
            nursery.start_soon(subscriptions.run)
            return
        link = Link(
            reconnector,
            EngineUnavailableError("not yet"),
            timeout_seconds=5.0,
            pending_bytes=1000,
            on_other_server=lambda: None,
        )
        nursery.start_soon(link.run)
        while len(caplog.messages) < 3:
            with suppress(EngineUnavailableError):
                await link.request("PUBLISH", "a", "b", parse=parse_count)
            await trio.sleep(0.001)

    run_for_a_while(main)
    notes = [message.partition("server=")[0].strip() for message in caplog.messages]
    assert notes == ["redis trouble", "redis is well again", "redis trouble"]


async def test_a_reply_without_end_is_given_up() -> None:
    connection = Connection(Mouth([b"$2147483647\r\n", *[b"x" * 1000] * 100]), most_reply_bytes=10_000)
    with pytest.raises(EngineUnavailableError, match="more than 10000 bytes"):
        await connection.receive()


@pytest.mark.parametrize(
    "how", [b"-ERR you said %b\r\n", b"-WRONGPASS %b\r\n", b"-NOAUTH %b\r\n", b"-ERR unknown command %b\r\n"]
)
async def test_a_password_that_is_said_back_is_told_to_nobody(how: bytes) -> None:
    async def parrot(stream: trio.SocketStream) -> None:
        said = bytes(await stream.receive_some(1000))
        await stream.send_all(how % said.replace(b"\r\n", b" "))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, parrot, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        endpoint = Endpoint(Address("127.0.0.1", port), "ann", "the-password", 0, None, 5.0)
        with pytest.raises((EngineUnavailableError, ConfigurationError)) as caught:
            await open_connection(endpoint)
        assert "the-password" not in str(caught.value)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "a\0b", "\udce9"])
async def test_a_name_that_no_host_can_have_is_a_lost_connection(host: str) -> None:
    endpoint = Endpoint(Address(host), None, None, 0, None, 5.0)
    with pytest.raises(EngineUnavailableError, match="cannot connect"):
        await open_connection(endpoint)


async def test_a_removal_that_is_no_text_ends_nothing(redis: RedisServer) -> None:
    async with opened(redis.url, prefix="odd") as engine:
        ear = Ear()
        await wait_ready(engine)
        await engine.subscribe("den", ear)
        for channel in (engine._keyspace.all_nodes, engine._keyspace.room("den").channel):
            for payload in (
                b"\x92\xa1\xff\xa1a",
                b"\x93\xa1e\x01\xdd\xff\xff\xff\xff",
                b"\x94\xc1",
                b"",
                b"\xff",
            ):
                assert redis.ask("PUBLISH", channel, payload) == 1
        await engine.append("den", [draft(1)], KEEP)
        await ear.wait(lambda: ear.offsets() == [1])
