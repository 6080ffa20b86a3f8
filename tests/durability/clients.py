"""Clients that do what a careful client does: resend what was not acknowledged, come back with what they have seen."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from broker.wakeup import Wakeup
from tests.durability.servers import Server, ask, history

Place: TypeAlias = tuple[str, int]
"""Epoch and offset."""

IN_FLIGHT = 8
REPEATED = 3


@attrs.define(eq=False)
class Ledger:
    """The acknowledged events, by room and text; every text is published once."""

    places: dict[tuple[str, str], Place] = attrs.Factory(dict)
    _grown: Wakeup = attrs.Factory(Wakeup)

    def note(self, room: str, text: str, place: Place) -> None:
        known = self.places.setdefault((room, text), place)
        assert known == place, "acknowledged again with another offset"
        self._grown.set()

    async def wait_grown_by(self, count: int) -> None:
        goal = len(self.places) + count
        while len(self.places) < goal:
            await self._grown.wait()

    def texts(self, room: str) -> dict[int, str]:
        """Return what was acknowledged in a room, by its offset."""
        texts = {offset: text for (where, text), (_, offset) in self.places.items() if where == room}
        assert len(texts) == sum(where == room for where, _ in self.places), "two were given one offset"
        return texts

    async def check_history(self, server: Server, room: str) -> None:
        """All that was acknowledged is in the history, where it was said to be, and nothing else is."""
        messages = await history(server, room)
        assert [message["offset"] for message in messages] == list(range(1, len(messages) + 1))
        assert {message["epoch"] for message in messages} <= {epoch for epoch, _ in self.places.values()}
        assert len({message["epoch"] for message in messages}) <= 1
        assert {message["offset"]: message["text"] for message in messages} == self.texts(room)


@attrs.define(eq=False)
class Publisher:
    """Says texts of its own in one room; those it has no answer for are in `unanswered`, by their ids."""

    name: str
    room: str
    ledger: Ledger
    padding: str = ""
    is_talking: bool = True
    said: int = 0
    unanswered: dict[str, str] = attrs.Factory(dict)
    refused: dict[str, str] = attrs.Factory(dict)
    last_answered: dict[str, str] = attrs.Factory(dict)
    _changed: Wakeup = attrs.Factory(Wakeup)

    def new(self) -> str:
        """Think of something to say; returns its id."""
        self.said += 1
        request_id = f"{self.name}-{self.said}"
        self.unanswered[request_id] = f"{request_id} {self.padding}"
        return request_id

    async def stay(self, server: Server) -> None:
        """Talk to a server until it is killed."""
        raise NotImplementedError

    def begin(self) -> list[str]:
        """Return the ids to send on a new connection: as if the last answers had been lost with the old one."""
        self.unanswered = {**self.last_answered, **self.unanswered, **self.refused}
        self.refused = {}
        return list(self.unanswered)

    def note_acknowledged(self, request_id: str, place: Place) -> None:
        text = self.unanswered.pop(request_id)
        self.ledger.note(self.room, text, place)
        self.last_answered[request_id] = text
        while len(self.last_answered) > REPEATED:
            del self.last_answered[next(iter(self.last_answered))]
        self._changed.set()

    def note_refused(self, request_id: str) -> None:
        self.refused[request_id] = self.unanswered.pop(request_id)
        self._changed.set()

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something holds, which may be so after any message."""
        while not is_so():
            await self._changed.wait()

    async def wait_answered(self) -> None:
        """Wait until everything it said was answered."""
        await self.wait_until(lambda: not self.unanswered)

    async def wait_refused(self) -> None:
        """Wait until it was told of an error, and what it sent before was answered too."""
        await self.wait_until(lambda: bool(self.refused) and not self.unanswered)


@attrs.define(eq=False)
class Member(Publisher):
    """A user in the room over WebSocket. A silent one is one that does not talk."""

    seen: Place | None = None
    heard: list[tuple[int, str]] = attrs.Factory(list)
    connections: int = 0
    pongs: int = 0
    socket: WebSocketConnection | None = None

    async def stay(self, server: Server) -> None:
        """Be in the room until the server is killed."""
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        except OSError:
            assert server.is_killed
            return
        path = server.websocket_path(self.name, self.room, self.seen)
        # Not trio-websocket's own opener: it forgets to close the socket of a connection that broke.
        async with stream, trio.open_nursery() as nursery:
            try:
                self.socket = await wrap_client_stream(nursery, stream, "127.0.0.1", path)
                await self.converse(self.socket)
            except (ConnectionClosed, HandshakeError):
                assert server.is_killed, "the server closed the connection"
            nursery.cancel_scope.cancel()

    async def converse(self, socket: WebSocketConnection) -> None:
        for request_id in self.begin():
            await self.send(request_id)
        while True:
            self.hear(json.loads(await socket.get_message()))
            self._changed.set()
            await self.talk()

    async def talk(self) -> None:
        while self.is_talking and not self.refused and len(self.unanswered) < IN_FLIGHT:
            await self.send(self.new())

    async def send(self, request_id: str) -> None:
        assert self.socket is not None
        message = {"type": "chat", "text": self.unanswered[request_id], "id": request_id}
        await self.socket.send_message(json.dumps(message))

    async def send_refused(self) -> None:
        """Try again on the same connection."""
        for request_id in self.begin():
            await self.send(request_id)

    async def wait_connected(self, times: int) -> None:
        """Wait until it has been told that it is in the room, for so many times altogether."""
        await self.wait_until(lambda: self.connections >= times)

    async def ping(self) -> None:
        """Wait for an answer, on the same connection."""
        before = self.pongs
        assert self.socket is not None
        await self.socket.send_message('{"type":"ping"}')
        await self.wait_until(lambda: self.pongs > before)

    def hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "joined":
                self.hear_joined(message)
            case "chat" | "note":
                self.hear_event(message)
            case "ack":
                self.note_acknowledged(message["id"], (message["epoch"], message["offset"]))
            case "error":
                assert message["code"] == "unavailable", message
                assert message["retry_after_ms"] > 0
                self.note_refused(message["id"])
            case "pong":
                self.pongs += 1
            case other:
                assert other in {"user_joined", "user_left"}, message

    def hear_joined(self, joined: dict[str, Any]) -> None:
        self.connections += 1
        if self.seen is None:
            assert joined["messages"] == []
            self.seen = (joined["epoch"], joined["offset"])
        assert joined["recovered"] == (self.connections > 1), "not everything missed can be told"
        for message in joined["messages"]:
            self.hear_event(message)
        assert self.seen == (joined["epoch"], joined["offset"])

    def hear_event(self, message: dict[str, Any]) -> None:
        assert self.seen is not None
        epoch, offset = self.seen
        assert (message["epoch"], message["offset"]) == (epoch, offset + 1), "an event missing or repeated"
        self.seen = (epoch, offset + 1)
        self.heard.append((offset + 1, message["text"]))


@attrs.define(eq=False)
class Notifier(Publisher):
    """An application that publishes over HTTP, with Idempotency-Keys, one after the other."""

    async def stay(self, server: Server) -> None:
        """Publish until the server is killed, a publish is refused, or there is nothing more to say."""
        waiting = self.begin()
        while waiting or (self.is_talking and not self.refused):
            request_id = waiting.pop(0) if waiting else self.new()
            message = {"type": "note", "text": self.unanswered[request_id]}
            path = f"/api/rooms/{self.room}/messages"
            answer = await ask(server, path, message, idempotency_key=request_id)
            if answer is None:
                return
            if answer.status == 503:
                assert int(answer.headers["retry-after"]) > 0
                assert answer.body["code"] == "unavailable"
                self.note_refused(request_id)
            else:
                assert answer.status == 200, answer
                self.note_acknowledged(request_id, (answer.body["epoch"], answer.body["offset"]))
