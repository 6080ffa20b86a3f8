"""`connect` under asyncio: the same client, with asyncio's own tasks, time limits and cancellation around it."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from urllib.parse import urlsplit

import pytest

from broker.auth.mint import mint_token
from broker.client import ClosedError, Room, connect
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server in a process of its own."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**others, "GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY},
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            listening = next(line for line in process.stderr if '"listening"' in line)
            yield re.search(r"http://[\d.:]+", listening)[0]
        finally:
            process.kill()


def token(user: str, ttl_seconds: float = 3600) -> str:
    return mint_token(
        secret=SECRET, algorithm="HS256", user_id=user, ttl_seconds=ttl_seconds, now=time.time()
    )


def run(main) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await main

    asyncio.run(bounded())


class Eager(Random):
    """Draws no delay."""

    def uniform(self, a: float, b: float) -> float:
        return a


@asynccontextmanager
async def network(url: str) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Relay connections to a server; gives its address, and the connections, which a test may abort."""
    near_ends: list[asyncio.StreamWriter] = []
    parts = urlsplit(url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        near_ends.append(writer)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while some := await source.read(65536):
                    sink.write(some)
            except OSError:
                pass
            sink.close()

        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", near_ends
        for writer in near_ends:
            writer.transport.abort()


async def texts(room: Room, count: int) -> list[str]:
    heard: list[str] = []
    async for message in room:
        if message["type"] == "chat":
            heard.append(message["text"])
            if len(heard) == count:
                break
    return heard


def test_it_talks(url):
    async def main() -> None:
        async with connect(url, token=token("ann")) as client, client.join("talk") as room:
            assert room.joined["room_size"] == 1
            positions = await asyncio.gather(*(room.chat(f"{number}") for number in range(100)))
            assert [position.offset for position in positions] == list(range(1, 101))
            assert await texts(room, 100) == [f"{number}" for number in range(100)]
            assert (await room.presence()).users == {"ann": 1}
            assert len((await room.history(limit=7)).messages) == 7
            await room.publish_ephemeral("typing", {"on": True})
            assert (await anext(room))["data"] == {"on": True}
            with pytest.raises(ValueError, match="bytes"):
                await room.publish("x", b"x")
        async with (
            connect(url, token=token("bob")) as client,
            client.join("talk", since=positions[97]) as room,
        ):
            assert await texts(room, 2) == ["98", "99"]

    run(main())


def test_a_lost_connection_is_made_again_and_nothing_is_lost_or_twice(url):
    async def main() -> None:
        async with (
            network(url) as (near, connections),
            connect(near, token=token("ann"), random=Eager()) as client,
            connect(url, token=token("bob")) as other,
            client.join("cut") as room,
            other.join("cut") as others,
        ):
            for number in range(30):
                if number % 10 == 5:
                    connections[-1].transport.abort()
                await others.chat(f"{number}")
                await room.chat(f"{number}, too")
            heard = await texts(room, 60)
            assert heard[::2] == [f"{number}" for number in range(30)]
            assert heard[1::2] == [f"{number}, too" for number in range(30)]
            assert len(connections) > 1

    run(main())


def test_a_wait_that_is_cancelled_loses_no_message(url):
    """Cancelled by `Task.cancel` at every step of the loop around the arrival of a message."""

    async def main() -> None:
        async with connect(url, token=token("ann")) as client, client.join("cancel") as room:
            said = asyncio.create_task(say(room))
            heard: list[str] = []
            for attempt in count():
                if len(heard) == 50:
                    break
                waiting = asyncio.create_task(anext(room))
                for _ in range(attempt % 7):
                    await asyncio.sleep(0)
                waiting.cancel()
                (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
                if isinstance(outcome, dict) and outcome["type"] == "chat":
                    heard.append(outcome["text"])
            await said
            assert heard == [f"{number}" for number in range(50)]

    async def say(room: Room) -> None:
        for number in range(50):
            await room.chat(f"{number}")

    run(main())


def test_a_token_is_replaced_on_its_connection(url):
    async def main() -> None:
        states: list[str] = []
        given: list[str] = []

        async def get_token() -> str:
            given.append(token("ann", 3 if not given else 60))
            return given[-1]

        async with (
            connect(url, token=token("eve")) as observer,
            observer.join("refresh") as seen,
            connect(url, token=get_token, on_state=lambda state: states.append(state.kind)) as client,
            client.join("refresh") as room,
        ):
            while len(given) < 2:
                await asyncio.sleep(0.05)
            await room.chat("still here")
            kinds = [(await anext(seen))["type"] for _ in range(4)]
            assert kinds == ["joined", "user_joined", "user_joined", "chat"]
            assert states == ["connecting", "connected"]

    run(main())


def test_errors_come_out_as_they_are(url):
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with connect(url, token=token("ann")) as client, client.join("errors"):
                raise KeyError("mine")
        with pytest.raises(TimeoutError):  # noqa: PT012  # it comes out of all these blocks
            async with connect(url, token=token("ann")) as client, client.join("errors") as room:
                while True:
                    await asyncio.wait_for(anext(room), 0.2)
        async with connect(url, token="nonsense") as client:
            with pytest.raises(ClosedError, match="4001"):
                async with client.join("errors"):
                    pass
        async with connect("http://127.0.0.1:1", token="t", reconnects=False) as client:
            with pytest.raises(ClosedError, match="refused"):
                async with client.join("errors"):
                    pass

    run(main())
