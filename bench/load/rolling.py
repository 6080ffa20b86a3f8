"""Nodes restarted one after another while clients of `broker.client` talk, and what each of them missed."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from random import Random

import attrs
import jwt
import trio

from bench import process
from bench.errors import BenchError
from bench.process import Node
from bench.spec import ServerSpec
from broker.client import ClientError, Room, State, connect

_ROOM = "bench-rolling"
_TOKEN_SECONDS = 3600
_STOP_GRACE_SECONDS = 6.0
_SETTLE_SECONDS = 15.0
_TOO_LATE_SECONDS = 120.0


@attrs.frozen
class Rolling:
    """The load: `clients` are connected, and each of `speakers` among them publishes `per_second` messages a second.

    Before each restart is a rest, as in a deployment: a client is held back if its connections never last (10 s).
    """

    nodes: int = 3
    clients: int = 20
    speakers: int = 10
    per_second: float = 10.0
    drain_seconds: float = 2.0
    rest_seconds: float = 10.5


@attrs.define
class Rolled:
    """The result. A gap is from the end of a connection until its client is in the room again."""

    seconds: float = 0.0
    acks_ns: list[int] = attrs.Factory(list)
    gaps_ns: list[int] = attrs.Factory(list)
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    not_recovered: int = 0


@attrs.define(eq=False)
class Guest:
    """One client, and the account it keeps."""

    nodes: Sequence[Node]
    token: str
    random: Random
    rolled: Rolled
    acked: dict[str, int]
    heard: list[tuple[int, str]] = attrs.Factory(list)
    since: int | None = None
    """The offset at which it first came in."""
    is_over: bool = False
    inside: trio.Event = attrs.Factory(trio.Event)
    silent: trio.Event = attrs.Factory(trio.Event)
    _lost_at_ns: int | None = None

    async def dial(self) -> trio.abc.Stream:
        """Connect to any node that takes it."""
        for node in self.random.sample(self.nodes, k=len(self.nodes)):
            if node.port is not None:
                try:
                    return await trio.open_tcp_stream(process.HOST, node.port)
                except OSError:
                    continue
        raise ConnectionRefusedError("no node takes a connection")

    def note_state(self, state: State) -> None:
        """Note when the connection was lost."""
        if state.kind == "waiting" and self._lost_at_ns is None:
            self._lost_at_ns = time.perf_counter_ns()

    async def stay(self, name: str, pause_seconds: float | None) -> None:
        """Be in the room, and speak there if there is a pause to be made, until it is over."""
        async with (
            connect(
                f"http://{process.HOST}", token=self.token, dial=self.dial, on_state=self.note_state
            ) as client,
            client.join(_ROOM) as room,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen, room)
            self.inside.set()
            if pause_seconds is not None:
                await self._speak(room, name, pause_seconds)
            self.silent.set()

    async def _speak(self, room: Room, name: str, pause_seconds: float) -> None:
        number = 0
        while not self.is_over:
            number += 1
            text, begin_ns = f"{name} {number}", time.perf_counter_ns()
            position = await room.chat(text)
            self.rolled.acks_ns.append(time.perf_counter_ns() - begin_ns)
            self.acked[text] = position.offset
            await trio.sleep(pause_seconds * self.random.uniform(0.5, 1.5))

    async def _listen(self, room: Room) -> None:
        async for message in room:
            if message["type"] == "chat":
                self.heard.append((message["offset"], message["text"]))
            elif message["type"] != "joined":
                continue
            elif self.since is None:
                self.since = message["offset"]
            elif self._lost_at_ns is not None:
                self.rolled.gaps_ns.append(time.perf_counter_ns() - self._lost_at_ns)
                self.rolled.not_recovered += not message["recovered"]
                self._lost_at_ns = None

    def has_heard(self, offset: int) -> bool:
        """Return whether it has heard what has this offset, or something later."""
        return bool(self.heard) and self.heard[-1][0] >= offset


def roll(spec: ServerSpec, work: Rolling, *, secret: str, core: int | None) -> Rolled:
    """Start the nodes and the clients, restart each node, and return what came of it.

    :raises BenchError: if a node does not start, a client is sent away for good, or it takes over two minutes.
    """
    nodes = [Node(spec, core, work.drain_seconds + _STOP_GRACE_SECONDS) for _ in range(work.nodes)]
    try:
        return trio.run(_roll, nodes, work, secret)
    except* (ClientError, trio.TooSlowError) as group:
        raise BenchError(f"the clients did not come through a rolling restart: {group!r}") from group
    finally:
        for node in nodes:
            node.stop()


async def _roll(nodes: Sequence[Node], work: Rolling, secret: str) -> Rolled:
    rolled = Rolled()
    acked: dict[str, int] = {}
    with trio.fail_after(_TOO_LATE_SECONDS):
        for node in nodes:
            await trio.to_thread.run_sync(node.start)
        async with trio.open_nursery() as nursery:
            guests = []
            for number in range(work.clients):
                token = jwt.encode(
                    {"sub": f"u{number}", "exp": int(time.time()) + _TOKEN_SECONDS}, secret, algorithm="HS256"
                )
                guest = Guest(nodes, token, Random(number), rolled, acked)
                guests.append(guest)
                pause_seconds = 1.0 / work.per_second if number < work.speakers else None
                nursery.start_soon(partial(guest.stay, f"speaker {number}", pause_seconds))
            for guest in guests:
                await guest.inside.wait()
            begin = time.perf_counter()
            for node in nodes:
                await trio.sleep(work.rest_seconds)
                await trio.to_thread.run_sync(node.stop)
                await trio.to_thread.run_sync(node.start)
            rolled.seconds = time.perf_counter() - begin
            await _settle(guests, acked)
            nursery.cancel_scope.cancel()
    for guest in guests:
        judge(guest, rolled)
    return rolled


async def _settle(guests: Sequence[Guest], acked: dict[str, int]) -> None:
    """Let everyone stop speaking, and wait until all have heard the last, or will not any more."""
    for guest in guests:
        guest.is_over = True
    for guest in guests:
        await guest.silent.wait()
    last = max(acked.values())
    with trio.move_on_after(_SETTLE_SECONDS):
        while not all(guest.has_heard(last) for guest in guests):  # noqa: ASYNC110  # many are waited for
            await trio.sleep(0.01)


def judge(guest: Guest, rolled: Rolled) -> None:
    """Count what one has missed of what was acknowledged, or heard twice or too late."""
    offsets = [offset for offset, _ in guest.heard]
    since = guest.since or 0
    due = {(offset, text) for text, offset in guest.acked.items() if offset > since}
    rolled.lost += len(due - set(guest.heard))
    rolled.twice += len(guest.heard) - len({text for _, text in guest.heard})
    rolled.out_of_order += sum(later <= earlier for earlier, later in pairwise(offsets))
