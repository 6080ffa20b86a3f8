"""A disk with no space left: senders are told, nobody is thrown out, nothing is acknowledged that is not stored."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import attrs
import pytest
import trio

from tests.durability.clients import Ledger, Member, Notifier, Publisher
from tests.durability.servers import TEST_SECONDS, Server, ask, serve

ROOMS = ("den", "loft")
LITTLE_BYTES = 100_000

if not sys.platform.startswith("linux"):
    pytest.skip("the limits of another process are set as Linux does", allow_module_level=True)


class Disk(Protocol):
    """Where a server's file is, and how much more it may hold."""

    @property
    def file(self) -> Path: ...

    def leave(self, server: Server, left_bytes: int | None) -> None:
        """Leave so much space; None is all there was."""
        ...


@attrs.frozen
class LimitedFile:
    """The server may write no file past a size; then it is told EFBIG."""

    file: Path

    def leave(self, server: Server, left_bytes: int | None) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = most
        if left_bytes is not None:
            limit = max(path.stat().st_size for path in self.file.parent.iterdir()) + left_bytes
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, most))


@attrs.frozen
class SmallDisk:
    """A file system of its own, filled up by another file."""

    file: Path

    def leave(self, server: Server, left_bytes: int | None) -> None:
        with (self.file.parent / "ballast").open("wb", buffering=0) as ballast:
            if left_bytes is not None:
                with suppress(OSError):
                    while ballast.write(bytes(4096)):
                        pass
                ballast.truncate(max(0, ballast.tell() - left_bytes))


@pytest.fixture(params=["limited file", "small disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limited file":
        yield LimitedFile(tmp_path / "rooms.db")
        return
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "greenroom-test", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(tmp_path / "rooms.db")
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@attrs.define
class Load:
    """Those who talk, on one server after the other."""

    ledger: Ledger
    members: list[Member]
    notifier: Notifier

    @property
    def clients(self) -> list[Publisher]:
        return [*self.members, self.notifier]

    def start(self, server: Server, nursery: trio.Nursery) -> None:
        for client in self.clients:
            nursery.start_soon(client.stay, server)

    async def wait_refused(self) -> None:
        """Wait until each was told of an error, and what it sent before was answered too."""
        for client in self.clients:
            await client.wait_refused()

    async def check(self, server: Server) -> None:
        """The rooms hold what was acknowledged and nothing else, and their members have heard that."""
        for room in ROOMS:
            await self.ledger.check_history(server, room)
        for member in self.members:
            await member.ping()
            texts = self.ledger.texts(member.room)
            assert member.heard == [
                (offset, texts[offset]) for offset in range(member.heard[0][0], len(texts) + 1)
            ]


@pytest.fixture
def load() -> Load:
    ledger = Ledger()
    members = [Member(f"{room}-{n}", room, ledger, padding="x" * 200) for room in ROOMS for n in range(2)]
    return Load(ledger, members, Notifier("http", ROOMS[0], ledger, padding="x" * 200))


async def readiness(server: Server) -> tuple[int, list[str]]:
    answer = await ask(server, "/ready")
    assert answer is not None
    return answer.status, answer.body["reasons"]


async def check_what_needs_no_space(server: Server) -> None:
    """A room that nobody was ever in can be looked at and joined, and ephemeral events are told."""
    room = await ask(server, "/api/rooms/elsewhere")
    assert room is not None
    assert (room.status, room.body["offset"]) == (200, 0)
    whisper = await ask(server, "/api/rooms/elsewhere/messages?ephemeral=1", {"type": "note", "text": "x"})
    assert whisper is not None
    assert (whisper.status, whisper.body["offset"]) == (200, None)
    page = await ask(server, "/api/rooms/elsewhere/messages")
    assert page is not None
    assert (page.status, page.body["epoch"]) == (200, room.body["epoch"])
    async with trio.open_nursery() as nursery:
        newcomer = Member("newcomer", "elsewhere", Ledger(), is_talking=False)
        nursery.start_soon(newcomer.stay, server)
        await newcomer.wait_connected(1)
        nursery.cancel_scope.cancel()
    assert newcomer.seen == (room.body["epoch"], 0)


async def test_publishes_are_refused_on_a_full_disk_and_stored_once_there_is_space(
    disk: Disk, load: Load
) -> None:
    with trio.fail_after(TEST_SECONDS):
        async with serve(disk.file) as server, trio.open_nursery() as nursery:
            load.start(server, nursery)
            # It happens more than once in a server's life.
            for _ in range(2):
                await load.ledger.wait_grown_by(50)
                disk.leave(server, LITTLE_BYTES)
                await load.wait_refused()
                disk.leave(server, 0)
                # Whatever small message might still find a place in the file, this one does not.
                large = {"type": "note", "text": "x" * 60_000}
                answer = await ask(server, f"/api/rooms/{ROOMS[0]}/messages", large)
                assert answer is not None
                assert answer.status == 503
                await check_what_needs_no_space(server)
                for _ in range(3):
                    status, [reason] = await readiness(server)
                    assert status == 503
                    assert reason.startswith("engine: cannot store")
                await load.check(server)
                disk.leave(server, None)
                assert await readiness(server) == (200, [])
                for member in load.members:
                    await member.send_refused()
                nursery.start_soon(load.notifier.stay, server)
            await load.ledger.wait_grown_by(50)
            assert [member.connections for member in load.members] == [1] * len(load.members)
            events = {line["event"] for line in server.log}
            assert "engine cannot store" in events
            assert not events & {"room failed", "connection failed", "request failed"}
            await server.kill()


async def test_acknowledged_events_survive_a_kill_on_a_full_disk(disk: Disk, load: Load) -> None:
    with trio.fail_after(TEST_SECONDS):
        async with serve(disk.file) as server, trio.open_nursery() as nursery:
            load.start(server, nursery)
            await load.ledger.wait_grown_by(50)
            disk.leave(server, LITTLE_BYTES)
            await load.wait_refused()
            await server.kill()
        async with serve(disk.file) as server, trio.open_nursery() as nursery:
            for room in ROOMS:
                await load.ledger.check_history(server, room)
            disk.leave(server, None)
            load.start(server, nursery)
            await load.ledger.wait_grown_by(50)
            await server.kill()
