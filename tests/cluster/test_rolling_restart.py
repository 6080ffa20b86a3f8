"""Three nodes restarted one after another under load, as a deployment does: clients lose nothing but time."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from broker.auth.mint import mint_token
from broker.client import Position, Room, State, connect
from broker.errors import CloseCode
from broker.wakeup import Wakeup
from tests.cluster.node_processes import NodeProcess, running_nodes
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import RedisServer
from tests.support.secrets import SECRET

ROOM = "den"
CLIENTS = 12
SPEAKERS = 6
PAUSE_SECONDS = 0.005
"""Between an acknowledgement and the speaker's next text: so short that many a text is on its way at a restart."""
DRAIN_SECONDS = 1.5


@asynccontextmanager
async def open_nodes(redis: RedisServer, directory: Path) -> AsyncIterator[list[NodeProcess]]:
    environ = {"GREENROOM_SERVER__DRAIN_SECONDS": str(DRAIN_SECONDS), "GREENROOM_REDIS__PREFIX": "rolling"}
    nodes = [NodeProcess(redis.url, directory / f"node-{number}.log", environ) for number in range(3)]
    async with running_nodes(nodes):
        yield nodes


@attrs.define(eq=False)
class Ledger:
    """The acknowledged events, by text; every text is published once."""

    places: dict[str, Position] = attrs.Factory(dict)
    _grown: Wakeup = attrs.Factory(Wakeup)

    def note(self, text: str, place: Position) -> None:
        self.places[text] = place
        self._grown.set()

    async def wait_grown_by(self, count: int) -> None:
        goal = len(self.places) + count
        while len(self.places) < goal:
            await self._grown.wait()


@attrs.define(eq=False)
class Guest:
    """A client that keeps account of what it hears, and of when its connections end and begin."""

    name: str
    ledger: Ledger
    nodes: Sequence[NodeProcess]
    random: Random
    node: NodeProcess
    heard: list[tuple[Position, str]] = attrs.Factory(list)
    states: list[tuple[float, State]] = attrs.Factory(list)
    joins: int = 0
    is_over: bool = False
    inside: trio.Event = attrs.Factory(trio.Event)
    silent: trio.Event = attrs.Factory(trio.Event)
    room: Room | None = None
    _news: Wakeup = attrs.Factory(Wakeup)

    async def dial(self) -> trio.abc.Stream:
        """Connect to the node it was given first, later to any that takes it."""
        others = self.random.sample(self.nodes, k=len(self.nodes)) if self.states[1:] else [self.node]
        refused: OSError = ConnectionRefusedError("nowhere to go")
        for node in others:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", node.port)
            except OSError as error:
                refused = error
            else:
                self.node = node
                return stream
        raise refused

    def note_state(self, state: State) -> None:
        self.states.append((trio.current_time(), state))
        self._news.set()

    async def stay(self, *, is_speaking: bool) -> None:
        """Be in the room, and speak there until told to stop."""
        token = mint_token(
            secret=SECRET, algorithm="HS256", user_id=self.name, ttl_seconds=600, now=time.time()
        )
        async with (
            connect(
                "http://127.0.0.1", token=token, dial=self.dial, on_state=self.note_state, random=self.random
            ) as client,
            client.join(ROOM) as room,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen, room)
            self.room = room
            self.inside.set()
            if is_speaking:
                await self._speak(room)
            self.silent.set()

    async def _speak(self, room: Room) -> None:
        number = 0
        while not self.is_over:
            number += 1
            text = f"{self.name} {number}"
            self.ledger.note(text, await room.chat(text))
            await trio.sleep(PAUSE_SECONDS)

    async def _listen(self, room: Room) -> None:
        async for message in room:
            assert message["type"] != "gap"
            if message["type"] == "joined":
                self.joins += 1
                assert message["recovered"] == (self.joins > 1), "not everything missed was told"
            elif message["type"] == "chat":
                self.heard.append((Position(message["epoch"], message["offset"]), message["text"]))
                self._news.set()

    async def wait_heard(self, place: Position) -> None:
        while not self.heard or self.heard[-1][0] != place:
            await self._news.wait()

    async def wait_connected(self) -> None:
        while self.states[-1][1].kind != "connected":
            await self._news.wait()

    def departure_since(self, begin: float) -> State:
        return next(state for at, state in self.states if state.kind == "waiting" and at >= begin)

    def back_at(self, begin: float) -> float:
        return next(at for at, state in self.states if state.kind == "connected" and at >= begin)


async def test_nodes_restarted_one_after_another_cost_clients_nothing_but_time(
    redis: RedisServer, tmp_path: Path
) -> None:
    ledger, random = Ledger(), Random(6)
    with trio.fail_after(4 * PATIENCE_SECONDS):
        async with open_nodes(redis, tmp_path) as nodes, trio.open_nursery() as nursery:
            guests = [
                Guest(f"guest {number}", ledger, nodes, Random(random.random()), nodes[number % 3])
                for number in range(CLIENTS)
            ]
            for number, guest in enumerate(guests):
                nursery.start_soon(partial(guest.stay, is_speaking=number < SPEAKERS))
            for guest in guests:
                await guest.inside.wait()
            for node in nodes:
                await ledger.wait_grown_by(50)
                moved, began = [guest for guest in guests if guest.node is node], trio.current_time()
                await node.stop()
                await node.start()
                for guest in guests:
                    await guest.wait_connected()
                check_returns(moved, began)
            await ledger.wait_grown_by(50)
            for guest in guests:
                guest.is_over = True
            for guest in guests:
                await guest.silent.wait()
            held = await history(guests[0].room)
            for guest in guests:
                await guest.wait_heard(held[-1][0])
            check_account(guests, ledger, held)
            nursery.cancel_scope.cancel()


def check_returns(moved: Sequence[Guest], began: float) -> None:
    """Each was sent away in its own part of the window, and came back no sooner."""
    assert len(moved) > 1, "nobody was there to be moved"
    returns = sorted(guest.back_at(began) - began for guest in moved)
    for place, seconds in enumerate(returns):
        assert seconds >= DRAIN_SECONDS * place / len(moved), returns
    for guest in moved:
        cause = guest.departure_since(began).cause
        assert cause is not None
        assert cause.code == CloseCode.SERVICE_RESTART


def check_account(guests: Sequence[Guest], ledger: Ledger, held: list[tuple[Position, str]]) -> None:
    """Acknowledged events are stored once, at their acknowledged positions; all members got all stored events in order."""
    assert [place.offset for place, _ in held] == list(range(1, len(held) + 1))
    assert {text: place for place, text in held} == ledger.places
    assert len(ledger.places) == len(held)
    assert any(guest.joins > 1 for guest in guests)
    for guest in guests:
        # Those who came first spoke before the last was in.
        first = guest.heard[0][0].offset
        assert guest.heard == held[first - 1 :]
        assert first < len(held) / 2


async def history(room: Room | None) -> list[tuple[Position, str]]:
    assert room is not None
    told: list[tuple[Position, str]] = []
    since: Position | None = None
    while (page := await room.history(since=since)).messages:
        told += [(Position(said["epoch"], said["offset"]), said["text"]) for said in page.messages]
        since = told[-1][0]
    return told
