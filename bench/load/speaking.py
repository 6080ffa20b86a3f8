"""Rooms in which one member speaks and all listen, a message at a time; the clients are Python's."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from bench import process
from bench.errors import BenchError
from bench.load.client import Client, Clients

_PATIENCE_SECONDS = 60.0


@attrs.define
class Speaking:
    """The members of one server, of whom one in each room speaks; `rooms` are theirs, by number."""

    server: process.RunningServer
    clients: Clients
    rooms: list[int]
    speakers: dict[int, Client] = attrs.Factory(dict)

    def join(self, targets: list[str]) -> None:
        """Connect, and wait until all have joined.

        :raises BenchError: if one does not.
        """
        for number, target in enumerate(targets):
            self.clients.connect(number, target)
        joined = 0
        for client, texts in self._events():
            joined += sum(b'"type":"joined"' in text for text in texts)
            self.speakers.setdefault(self.rooms[client.number], client)
            if joined == len(targets):
                return

    def run(self, texts: Sequence[bytes], messages: int) -> float:
        """Let each member receive so many messages, of these in turn; returns the deliveries per CPU-second of the server.

        The speaker of a room goes on once all in it have the message.

        :raises BenchError: if a connection ends, or nothing comes for a minute.
        """
        members, missing = Counter(self.rooms), Counter(self.rooms)
        left = dict.fromkeys(members, messages)
        began = self.server.cpu_seconds()
        for speaker in self.speakers.values():
            speaker.send(texts[0])
        for client, received in self._events():
            room = self.rooms[client.number]
            missing[room] -= sum(b'"type":"chat"' in one for one in received)
            if not missing[room]:
                missing[room] = members[room]
                left[room] -= 1
                if left[room]:
                    self.speakers[room].send(texts[left[room] % len(texts)])
                elif not any(left.values()):
                    break
        return len(self.rooms) * messages / max(0.01, self.server.cpu_seconds() - began)

    def _events(self) -> Iterator[tuple[Client, list[bytes]]]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for client, texts in self.clients.events(1.0):
                if texts is None:
                    raise BenchError(f"{self.server.spec.name} has closed connection {client.number}")
                deadline = time.monotonic() + _PATIENCE_SECONDS
                yield client, texts
        raise BenchError(f"{self.server.spec.name} delivers nothing any more")
