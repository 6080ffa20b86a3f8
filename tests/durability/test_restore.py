"""A server on files that were set back: clients of the lost time are told so, others recover, nothing runs by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.durability.clients import Place
from tests.durability.servers import TEST_SECONDS, Server, ask, serve


async def publish(server: Server, room: str, count: int) -> Place:
    """Publish so many messages; return where the last is."""
    for number in range(count):
        answer = await ask(server, f"/api/rooms/{room}/messages", {"type": "note", "text": f"{number}"})
        assert answer is not None
        assert answer.status == 200, answer
        place = (answer.body["epoch"], answer.body["offset"])
    return place


async def recovers(server: Server, room: str, since: Place) -> bool:
    """Come back with a position; return whether all after it was told."""
    url = f"ws://127.0.0.1:{server.port}{server.websocket_path('ann', room, since)}"
    async with open_websocket_url(url) as socket:
        joined = await socket.get_message()
    return '"recovered":true' in joined.replace(" ", "")


def take_pair(directory: Path, copy: Path) -> None:
    copy.mkdir()
    for name in ("rooms.db", "rooms.db-wal"):
        shutil.copy(directory / name, copy / name)


def put_pair_in_place(directory: Path, copy: Path) -> None:
    for name in ("rooms.db", "rooms.db-wal"):
        (directory / name).write_bytes((copy / name).read_bytes())


def put_directory_back(directory: Path, copy: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(copy, directory)


def put_directory_in_place(directory: Path, copy: Path) -> None:
    for file in copy.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())


Step = Callable[[Path, Path], object]


@pytest.mark.parametrize(
    ("take", "put_back"),
    [
        (take_pair, put_pair_in_place),
        (shutil.copytree, put_directory_back),
        (shutil.copytree, put_directory_in_place),
    ],
)
async def test_clients_of_a_time_that_was_lost_are_told(tmp_path: Path, take: Step, put_back: Step) -> None:
    directory, copy = tmp_path / "data", tmp_path / "copy"
    directory.mkdir()
    with trio.fail_after(TEST_SECONDS):
        async with serve(directory / "rooms.db") as server:
            kept = await publish(server, "den", 5)
            take(directory, copy)
            lost = await publish(server, "den", 5)
            await server.kill()
        async with serve(directory / "rooms.db") as server:
            assert await recovers(server, "den", lost), "a kill alone loses nothing"
            await server.kill()
        put_back(directory, copy)
        async with serve(directory / "rooms.db") as server:
            first = await publish(server, "den", 1)
            last = await publish(server, "den", 20)
            assert (first[1], last[1]) == (6, 26)
            assert not await recovers(server, "den", lost)
            assert not await recovers(server, "den", kept)
            assert await recovers(server, "den", first)
            reasons = [line["reason"] for line in server.log if line["event"] == "rooms begin new epochs"]
            assert len(reasons) == 1
            await server.kill()
        async with serve(directory / "rooms.db") as server:
            assert await recovers(server, "den", first)
            await server.kill()
