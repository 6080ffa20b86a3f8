"""Users who come, say something and go, on whatever server is up, and the model that the book of webhooks must fit."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import attrs
import trio
import websockets.trio.client
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.durability.servers import Server, history
from tests.support.receiver import Application
from tests.support.served import Client

ROOMS = ("den", "loft")

FIRST_AND_LAST = {
    "user": ("user_joined", "user_left"),
    "room": ("room_occupied", "room_vacated"),
    "broker": ("user_online", "user_offline"),
}


@attrs.define(eq=False)
class Crowd:
    """The servers that are up, and the visits of all users."""

    servers: list[Server] = attrs.Factory(list)
    is_over: bool = False
    attempts: Counter[tuple[str, str]] = attrs.Factory(Counter)
    """Visits that were begun, by room and user."""
    sure: Counter[tuple[str, str]] = attrs.Factory(Counter)
    """Visits that are stored: the server has lived on until the user's next one. Who comes is stored a moment later than
    what it says, so the last visit before the server is killed may be lost."""
    latest: dict[str, tuple[Server, str]] = attrs.Factory(dict)
    """The server and room of each user's latest visit."""
    said: dict[str, tuple[str, str]] = attrs.Factory(dict)
    """The acknowledged texts, with room and user."""

    _visiting: int = 0
    _gone: trio.Event = attrs.Factory(trio.Event)

    async def end(self) -> None:
        """Wait until all users have made their last visit, so that the visits are those of the book."""
        self.is_over = True
        await self._gone.wait()
        for user, (server, room) in self.latest.items():
            if server in self.servers:
                self.sure[room, user] += 1

    def note_visit(self, server: Server, room: str, user: str) -> None:
        """Note a visit whose texts were acknowledged."""
        before, room_before = self.latest.get(user, (None, ""))
        if before is server:
            self.sure[room_before, user] += 1
        self.latest[user] = server, room

    async def visit(self, user: str, chance: random.Random) -> None:
        """Come and go until the crowd is over."""
        self._visiting += 1
        await self._come_and_go(user, chance)
        self._visiting -= 1
        if not self._visiting:
            self._gone.set()

    async def _come_and_go(self, user: str, chance: random.Random) -> None:
        number = 0
        while not self.is_over:
            if not self.servers:
                await trio.sleep(0.02)
                continue
            server, room = chance.choice(self.servers), chance.choice(ROOMS)
            try:
                path = server.websocket_path(user, room, None)
                url = server.url.replace("http:", "ws:") + path
                self.attempts[room, user] += 1
                # With a bounded queue this client waits for ever where it leaves with the queue full: its reader is
                # paused then, and the end of the connection does not wake it.
                async with websockets.trio.client.connect(
                    url, open_timeout=None, max_queue=None
                ) as connection:
                    client = Client(connection)
                    await client.receive("joined")
                    for _ in range(chance.randrange(1, 4)):
                        number += 1
                        text = f"{user} {number}"
                        await client.ask("ack", type="chat", text=text, id=text)
                        self.said[text] = room, user
                    self.note_visit(server, room, user)
                    await trio.sleep(chance.uniform(0, 0.05))
            except (OSError, WebSocketException, InvalidHandshake, trio.BrokenResourceError):
                # The server was killed.
                await trio.sleep(0.02)


def told(application: Application) -> list[dict[str, Any]]:
    """Return the book in the order of the numbers, which the order of arrival was checked to be in each room."""
    return sorted(application.entries.values(), key=lambda entry: entry["number"])


def is_balanced(application: Application, texts: int) -> bool:
    """Whether everybody is told to have gone, and so many messages have come."""
    counts = Counter(entry["type"] for entry in application.entries.values())
    return counts["message"] >= texts and all(
        counts[first] == counts[last] > 0 for first, last in FIRST_AND_LAST.values()
    )


async def check(application: Application, crowd: Crowd, server: Server, *, each_visit_counts: bool) -> None:
    """Check the book, entry by entry, against the histories of the rooms and against the visits.

    `each_visit_counts`: a visit that begins after another one of its user has ended is a join of its own.
    """
    assert application.unsigned == []
    assert application.out_of_order == []
    entries = told(application)
    await _check_messages(entries, crowd, server)
    for (room, user), attempts in crowd.attempts.items():
        pairs = [entry for entry in entries if (entry["room"], entry["user"]) == (room, user)]
        visits = _count_pairs(pairs, "user")
        least = crowd.sure[room, user] if each_visit_counts else min(1, crowd.sure[room, user])
        assert least <= visits <= attempts, (room, user)
    for room in ROOMS:
        in_room = [entry for entry in entries if entry["room"] == room]
        _count_pairs(in_room, "room")
        _check_occupied(in_room)
    for user in {user for _, user in crowd.attempts}:
        _count_pairs([entry for entry in entries if entry["user"] == user], "broker")


async def _check_messages(entries: list[dict[str, Any]], crowd: Crowd, server: Server) -> None:
    by_room = defaultdict(list)
    for entry in entries:
        if entry["type"] == "message":
            content = entry["content"]
            assert content["user_id"] == entry["user"]
            by_room[entry["room"]].append((entry["epoch"], entry["offset"], entry["time"], content["text"]))
    texts = set()
    for room in ROOMS:
        stored = await history(server, room)
        assert by_room[room] == [
            (message["epoch"], message["offset"], message["time"], message["text"]) for message in stored
        ]
        texts |= {message["text"] for message in stored}
    assert set(crowd.said) <= texts


def _count_pairs(entries: Iterable[dict[str, Any]], kind: str) -> int:
    """Return how often the first of a pair came; each is followed by its last."""
    first, last = FIRST_AND_LAST[kind]
    kinds = [entry["type"] for entry in entries if entry["type"] in {first, last}]
    assert kinds == [first, last] * (len(kinds) // 2)
    return len(kinds) // 2


def _check_occupied(entries: list[dict[str, Any]]) -> None:
    """A room is occupied as long as somebody is in it."""
    present: set[str] = set()
    changes: list[str] = []
    for entry in entries:
        if entry["type"] == "user_joined":
            if not present:
                changes.append("room_occupied")
            present.add(entry["user"])
        elif entry["type"] == "user_left":
            present.remove(entry["user"])
            if not present:
                changes.append("room_vacated")
    assert changes == [entry["type"] for entry in entries if entry["type"].startswith("room_")]
