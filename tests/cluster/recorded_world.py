"""Members and services that use recorded rooms on several nodes, and keep account of all they ask, are answered and hear."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random

import attrs
import httpx2
import msgspec
import trio

from broker.auth.mint import mint_token
from broker.client import Client, Position, Room, connect
from broker.client.effects import Message
from broker.wakeup import Wakeup
from tests.cluster.node_processes import NodeProcess
from tests.support.history_checker import Place
from tests.support.secrets import API_KEY, SECRET
from tests.support.turn_history import Answer, Turn, TurnHistory

PAUSE_SECONDS = 0.1
"""Between an answer and the next request of a speaker."""
ATTEMPT_SECONDS = 2.0
"""After which a client gives up on a node that does not answer at all."""
TEMPORARY = frozenset({502, 503, 504})


@attrs.frozen
class Latest:
    """A turn that somebody knows of: its number, the value after it, and the process that ran it."""

    number: int
    after: int
    owner: str


@attrs.define(eq=False)
class RecordedWorld:
    """What is known of the rooms; the callers below write it, and a test waits for it."""

    nodes: Sequence[NodeProcess]
    rooms: Sequence[str]
    random: Random
    histories: dict[str, TurnHistory] = attrs.Factory(dict)
    answers: dict[str, int] = attrs.Factory(dict)
    """How many requests were answered, by room."""
    latest: dict[str, Latest] = attrs.Factory(dict)
    """The last turn that anybody heard of or was answered by, by room: all members may be on a node that is cut off."""
    is_over: bool = False
    _news: Wakeup = attrs.Factory(Wakeup)

    def __attrs_post_init__(self) -> None:
        for room in self.rooms:
            self.histories[room], self.answers[room] = TurnHistory(), 0

    async def wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.wait()

    async def wait_answers(self, number: int) -> None:
        """Wait until each room has answered so many more requests."""
        goals = {room: answered + number for room, answered in self.answers.items()}
        await self.wait(lambda: all(self.answers[room] >= goal for room, goal in goals.items()))

    def owner(self, room: str) -> int:
        """Return the id of the process that ran the room's last known turn."""
        return int(self.latest[room].owner.split()[0])

    def note_answer(self, room: str, label: str, answer: Answer | None) -> None:
        self.histories[room].answer(label, answer)
        self.answers[room] += 1
        if answer is not None and answer.after is not None and answer.owner is not None:
            self._note_latest(room, Latest(answer.number, answer.after, answer.owner))
        self._news.set()

    def note_turn(self, room: str, member: str, place: Place, turn: Turn) -> None:
        self.histories[room].hear(member, place, turn)
        self._note_latest(room, Latest(turn.number, turn.after, turn.owner))
        self._news.set()

    def _note_latest(self, room: str, latest: Latest) -> None:
        if room not in self.latest or self.latest[room].number < latest.number:
            self.latest[room] = latest

    def note_silence(self) -> None:
        """Let who waits look again."""
        self._news.set()


def is_turn(message: Message) -> bool:
    return message["type"] == "turn" or (message["type"] == "event" and message["event"] == "note")


def read_turn(message: Message) -> tuple[Place, Turn]:
    fields = message if message["type"] == "turn" else message["data"]
    return Place(message["epoch"], message["offset"]), msgspec.convert(fields, Turn)


@attrs.define(eq=False)
class Member:
    """A client in several rooms, which speaks in each, on whichever node takes it."""

    name: str
    world: RecordedWorld
    random: Random
    home: NodeProcess
    """The node that it connects to first."""
    is_away: bool = False
    joined: dict[str, Room] = attrs.Factory(dict)
    speaking: int = 0

    async def dial(self) -> trio.abc.Stream:
        """Connect to its home, and later to any node that takes it."""
        nodes = self.random.sample(self.world.nodes, k=len(self.world.nodes))
        if not self.is_away:
            nodes.insert(0, self.home)
            self.is_away = True
        for node in nodes[:-1]:
            try:
                return await trio.open_tcp_stream("127.0.0.1", node.port)
            except OSError:
                pass
        return await trio.open_tcp_stream("127.0.0.1", nodes[-1].port)

    async def stay(self, rooms: Sequence[str]) -> None:
        """Be in rooms until cancelled; speak there until it is over."""
        token = mint_token(
            secret=SECRET, algorithm="HS256", user_id=self.name, ttl_seconds=86_400, now=time.time()
        )
        self.speaking = len(rooms)
        async with (
            connect(
                *("http://127.0.0.1",),
                token=token,
                dial=self.dial,
                random=self.random,
                timeout_seconds=ATTEMPT_SECONDS,
            ) as client,
            trio.open_nursery() as nursery,
        ):
            for room in rooms:
                nursery.start_soon(self._visit, client, room)

    async def _visit(self, client: Client, name: str) -> None:
        async with client.join(name) as room, trio.open_nursery() as nursery:
            self.joined[name] = room
            nursery.start_soon(self._listen, room)
            await self._speak(room)
            self.speaking -= 1
            self.world.note_silence()

    async def _listen(self, room: Room) -> None:
        is_first = True
        async for message in room:
            assert message["type"] != "gap"
            if message["type"] == "joined":
                assert message["recovered"] is not is_first, "not everything missed was told"
                is_first = False
            elif is_turn(message):
                self.world.note_turn(room.name, self.name, *read_turn(message))
            else:
                assert "offset" not in message, message

    async def _speak(self, room: Room) -> None:
        history = self.world.histories[room.name]
        for number in count(1):
            if self.world.is_over:
                return
            label = f"{self.name} {number}"
            history.begin(label)
            answer: Answer | None
            if self.random.randrange(4):
                data = (label, argument(self.world, room.name, self.random))
                answer = await room.call("add", data, result_type=Answer | None)  # type: ignore[arg-type]
            else:
                answer = Answer((await room.publish("note", label)).offset)
            self.world.note_answer(room.name, label, answer)
            await trio.sleep(self.random.uniform(0, 2 * PAUSE_SECONDS))


def argument(world: RecordedWorld, room: str, random: Random) -> int:
    """Return a number to count, or in an auction the next price that this caller knows of."""
    if room.startswith("auction"):
        return world.latest[room].after + 1 if room in world.latest else 1
    return random.randrange(-9, 10)


async def serve_rooms(world: RecordedWorld, random: Random) -> None:
    """Call rooms as a service does, by HTTP at any node, each time again until there is an answer."""
    async with httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {API_KEY}"}, timeout=ATTEMPT_SECONDS
    ) as http:
        for number in count(1):
            if world.is_over:
                return
            room, label = random.choice(world.rooms), f"service {number}"
            world.histories[room].begin(label)
            ask = partial(
                http.post,
                json={"data": [label, argument(world, room, random)]},
                headers={"Idempotency-Key": label},
            )
            answer: httpx2.Response | None = None
            while answer is None or answer.status_code in TEMPORARY:
                await trio.sleep(random.uniform(0, 2 * PAUSE_SECONDS))
                try:
                    answer = await ask(
                        f"http://127.0.0.1:{random.choice(world.nodes).port}/api/rooms/{room}/calls/add"
                    )
                except httpx2.TransportError:
                    answer = None
            assert answer.is_success, answer.text
            world.note_answer(room, label, msgspec.convert(answer.json()["data"], Answer | None))


async def read_history(room: Room) -> list[tuple[Place, Turn]]:
    """Return all turns that are stored."""
    turns: list[tuple[Place, Turn]] = []
    since: Position | None = None
    while (page := await room.history(since=since)).messages:
        turns += [read_turn(message) for message in page.messages]
        since = Position(turns[-1][0].epoch, turns[-1][0].offset)
    return turns
