"""Rooms with code on three nodes that are killed, frozen, drained and cut off: the turns of each room are one sequence.

A longer run: `ROOM_CHAOS_FAULTS=100 ROOM_CHAOS_SEED=7 pytest -s tests/cluster/test_room_chaos.py`.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import attrs
import trio

from tests.cluster.node_processes import NodeProcess, running_nodes
from tests.cluster.recorded_world import Member, RecordedWorld, read_history, serve_rooms
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import ROOT
from tests.support.redis import RedisServer, run_redis
from tests.support.redis_proxy import Proxy, open_proxy
from tests.support.turn_history import openings

ROOMS = ("counter.1", "counter.2", "auction.1")
MEMBERS = 6
NODES = 3
ENOUGH = 3
"""Answers of each room after a fault, before the next."""
LEASE_SECONDS = 1.5
ENVIRON = {
    "PYTHONPATH": str(ROOT),
    "GREENROOM_REDIS__TIMEOUT_SECONDS": "0.7",
    "GREENROOM_REDIS__PROBE_SECONDS": "0.2",
    "GREENROOM_REDIS__LEASE_SECONDS": str(LEASE_SECONDS),
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.3",
}


@attrs.define(eq=False)
class Faults:
    """What happens to the nodes, to Redis and to the links between them; each heals what it has broken."""

    world: RecordedWorld
    redis: RedisServer
    links: dict[NodeProcess, Proxy]
    random: Random
    moves: list[float] = attrs.Factory(list)
    """How long after its owner was gone a turn of each room was heard of."""
    _victims: set[NodeProcess] = attrs.Factory(set)

    @contextmanager
    def victim(self) -> Iterator[NodeProcess]:
        """Choose a node for the block, if possible one that owns a room, and none that is a victim already."""
        owners = {self.world.owner(room) for room in self.world.rooms}
        free = [node for node in self.links if node not in self._victims]
        node = self.random.choice([node for node in free if pid_of(node) in owners] or free)
        self._victims.add(node)
        yield node
        self._victims.remove(node)

    async def wait_moved(self, pid: int) -> None:
        """Wait until other nodes have all rooms of a process, and have run a turn of each."""
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for room in self.world.rooms:
                if self.world.owner(room) == pid:
                    nursery.start_soon(self._wait_moved, room, pid, begin)

    async def _wait_moved(self, room: str, pid: int, begin: float) -> None:
        await self.world.wait(lambda: self.world.owner(room) != pid)
        self.moves.append(trio.current_time() - begin)
        report(f"  {room} moved after {self.moves[-1]:.2f} s")

    async def kill(self) -> None:
        with self.victim() as node:
            await node.kill()
            await self.wait_moved(pid_of(node))
            await node.start()

    async def freeze(self) -> None:
        with self.victim() as node:
            node.freeze()
            await self.wait_moved(pid_of(node))
            node.thaw()

    async def drain(self) -> None:
        with self.victim() as node:
            await node.stop()
            await self.wait_moved(pid_of(node))
            await node.start()

    async def part(self) -> None:
        """Cut a node off from Redis until its rooms have moved."""
        with self.victim() as node:
            link = self.links[node]
            link.is_closed = True
            link.cut(link.routes)
            await self.wait_moved(pid_of(node))
            link.is_closed = False

    async def hold_up(self) -> None:
        """Hold up what a node sends to Redis, and let it arrive when its rooms have moved."""
        with self.victim() as node:
            link = self.links[node]
            hold = link.hold = trio.Event()
            await self.wait_moved(pid_of(node))
            link.hold = None
            hold.set()

    async def restart_redis(self) -> None:
        self.redis.kill()
        await trio.to_thread.run_sync(self.redis.start)

    async def cut(self) -> None:
        """Cut connections to Redis, at once or in the middle of a reply, or let one die without a word."""
        for link in self.links.values():
            for route in list(link.routes):
                match self.random.randrange(4):
                    case 0:
                        link.cut([route])
                    case 1:
                        route.bytes_until_cut = self.random.randrange(200)
                    case 2:
                        route.is_mute = True
                    case _:
                        pass


def pid_of(node: NodeProcess) -> int:
    assert node.process is not None
    return node.process.pid


KINDS = (
    Faults.kill,
    Faults.freeze,
    Faults.drain,
    Faults.part,
    Faults.hold_up,
    Faults.restart_redis,
    Faults.cut,
)


@asynccontextmanager
async def open_faults(directory: Path, random: Random) -> AsyncIterator[Faults]:
    """Start Redis, which forgets nothing that it has acknowledged, and three nodes, each with its link."""
    with run_redis(directory, "--appendonly", "yes", "--appendfsync", "always") as redis:
        async with AsyncExitStack() as stack:
            links: dict[NodeProcess, Proxy] = {}
            for number in range(NODES):
                link = await stack.enter_async_context(open_proxy(redis.port))
                log = directory / f"node-{number}.log"
                arguments = ("--rooms", "tests.cluster.recorded_rooms")
                links[NodeProcess(link.url, log, ENVIRON, arguments)] = link
            await stack.enter_async_context(running_nodes(list(links)))
            yield Faults(RecordedWorld(list(links), ROOMS, random), redis, links, random)


def script(random: Random, faults: int) -> Iterator[list[int]]:
    """Say which kinds of faults happen, round by round: each once, then any, some of them together."""
    kinds = list(range(len(KINDS)))
    random.shuffle(kinds)
    for kind in kinds:
        yield [kind]
    for _ in range(faults - len(kinds)):
        yield random.sample(range(len(KINDS)), random.choice((1, 1, 2)))


async def test_turns_are_one_sequence_whatever_happens_to_the_nodes(tmp_path: Path) -> None:
    seed = int(os.environ.get("ROOM_CHAOS_SEED", "1"))
    rounds = list(script(Random(seed), int(os.environ.get("ROOM_CHAOS_FAULTS", "0"))))
    with trio.fail_after(PATIENCE_SECONDS * (2 + len(rounds))):
        async with open_faults(tmp_path, Random(seed)) as faults, trio.open_nursery() as nursery:
            world = faults.world
            members = [
                Member(f"member {number}", world, Random(f"{seed} {number}"), world.nodes[number % NODES])
                for number in range(MEMBERS)
            ]
            for number, member in enumerate(members):
                nursery.start_soon(member.stay, (ROOMS[number % 2], ROOMS[2]))
            nursery.start_soon(serve_rooms, world, Random(f"{seed} service"))
            await world.wait_answers(ENOUGH)
            for kinds in rounds:
                report(", ".join(KINDS[kind].__name__ for kind in kinds))
                with trio.fail_after(PATIENCE_SECONDS):
                    async with trio.open_nursery() as happening:
                        for kind in kinds:
                            happening.start_soon(KINDS[kind], faults)
                    await world.wait_answers(ENOUGH)
            world.is_over = True
            await world.wait(lambda: not any(member.speaking for member in members))
            await check(world, members)
            nursery.cancel_scope.cancel()
    report(f"rooms moved after {sorted(round(each, 2) for each in faults.moves)} s, lease {LEASE_SECONDS} s")


async def check(world: RecordedWorld, members: list[Member]) -> None:
    for name, history in world.histories.items():
        here = [member for member in members if name in member.joined]
        history.stored = await read_history(here[0].joined[name])
        while history.pending_timers():
            await trio.sleep(0.1)
            history.stored = await read_history(here[0].joined[name])
        end = history.stored[-1][0]
        for member in here:
            heard = history.heard[member.name]
            await world.wait(lambda heard=heard, end=end: heard[-1][0].offset >= end.offset)
            history.heard[member.name] = [told for told in heard if told[0].offset <= end.offset]
        assert list(history.faults()) == []
        assert any(turn.kind == "timer" for _, turn in history.stored)
        report(f"{name}: {len(history.stored)} turns, opened {openings(history.stored)} times more")


def report(line: str) -> None:
    """Say something to who runs the tests with -s."""
    sys.stdout.write(f"{line}\n")
