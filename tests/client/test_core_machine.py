"""Any interleaving of sends, drops, acks, refusals, events, slow takes, trims and restarts against a model of a server.

What must hold: the application gets each event once, in order, without a hole, or is told of it by a `joined` with
`recovered` false; what is acknowledged is stored, once; what is said in a room is stored in the order it was said,
but for what was under way with something refused; and once nothing goes wrong any more, the application has
everything, and the server has this client in just the rooms it is in.
"""

import json
from collections import Counter, defaultdict, deque
from itertools import count
from typing import Any, Literal, get_args

import attrs
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.client.core import ClientCore
from broker.client.effects import RetryLater, RoomChanged, Send, Settle

ROOMS = ("a", "b")
ROOM_BYTES = 400

CANCELLED = object()
Refusal = Literal["rate_limited", "unavailable", "unavailable, but stored"]
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


@attrs.define
class ServerRoom:
    """The history of a room on a server; `trimmed` events are gone from its head."""

    epoch: str
    events: list[dict[str, Any]] = attrs.Factory(list)
    trimmed: int = 0
    acknowledged: dict[str, tuple[int, float]] = attrs.Factory(dict)
    """The offset of each id, and when it was stored."""

    def append(self, room: str, fields: dict[str, Any]) -> dict[str, Any]:
        event = {**fields, "room": room, "offset": len(self.events) + 1, "epoch": self.epoch, "time": 0}
        self.events.append(event)
        return event


class ClientMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        numbers = count(1)
        self.core = ClientCore(lambda: f"id{next(numbers)}", ROOM_BYTES)
        self.epochs = count(1)
        self.server = {room: ServerRoom(self.next_epoch()) for room in ROOMS}
        self.members: set[str] = set()
        self.up: deque[str] = deque()
        self.down: deque[str] = deque()
        self.taken: dict[str, list[dict[str, Any]]] = {room: [] for room in ROOMS}
        self.outcomes: dict[str, Any] = {}
        self.texts = count(1)
        self.asked: dict[str, tuple[str, str]] = {}
        self.rooms_with_losses: set[str] = set()
        self.fleeting: set[str] = set()
        self.history: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.refusal: Refusal | None = None
        self.refused: Counter[str] = Counter()
        self.unheard_refusals: set[str] = set()
        self.overtaken_by: dict[str, set[str]] = defaultdict(set)
        """Which requests were under way when one was refused."""
        self.timers: list[tuple[float, str]] = []
        self.sent: Counter[str] = Counter()

    def next_epoch(self) -> str:
        return f"e{next(self.epochs)}"

    def do(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    assert self.core.is_connected
                    self.up.append(effect.text)
                    request_id = json.loads(effect.text)["id"]
                    self.sent[request_id] += 1
                    for refused in self.unheard_refusals:
                        self.overtaken_by[refused].add(request_id)
                case Settle():
                    assert effect.request_id not in self.outcomes, "settled twice"
                    self.outcomes[effect.request_id] = effect.outcome
                case RetryLater():
                    self.timers.append((self.now + effect.after_seconds, effect.room))
                case RoomChanged():
                    pass
                case _:
                    raise AssertionError(effect)

    def tell(self, room: str, message: dict[str, Any]) -> None:
        if room in self.members:
            self.down.append(json.dumps(message))

    def say(self, room: str, fields: dict[str, Any]) -> dict[str, Any]:
        event = self.server[room].append(room, fields)
        self.history.setdefault((room, event["epoch"]), []).append(event)
        self.tell(room, event)
        return event

    @initialize(is_quiet=st.booleans())
    def begin(self, is_quiet: bool) -> None:
        if not is_quiet:
            for room in ROOMS:
                self.join(room)
            self.connect()
            self.exchange()

    # What the client's application does.

    @rule(room=st.sampled_from(ROOMS))
    def join(self, room: str) -> None:
        if room not in self.core.rooms:
            self.do(self.core.join(room, None, self.now))

    @rule(room=st.sampled_from(ROOMS))
    def leave(self, room: str) -> None:
        if room in self.core.rooms:
            self.do(self.core.leave(room))
            self.taken[room].clear()

    @rule(
        room=st.sampled_from(ROOMS), kind=st.sampled_from(["send", "send", "once"]), times=st.integers(1, 3)
    )
    def chat(self, room: str, kind: Literal["send", "once"], times: int) -> None:
        for _ in range(times if room in self.core.rooms else 0):
            number = next(self.texts)
            request_id, text = f"chat{number}", f"text {number}"
            message = {"type": "chat", "room": room, "text": text, "id": request_id}
            self.asked[request_id] = (room, text)
            if kind == "once":
                self.fleeting.add(request_id)
            self.do(self.core.request(message, self.now, kind))

    @rule(index=st.integers(0, 5))
    def cancel(self, index: int) -> None:
        waiting = [request_id for request_id in self.asked if request_id not in self.outcomes]
        if index < len(waiting):
            self.outcomes[waiting[index]] = CANCELLED
            self.do(self.core.cancel(waiting[index], self.now))

    @rule(room=st.sampled_from(ROOMS), at_most=st.integers(1, 20))
    def take(self, room: str, at_most: int) -> None:
        for _ in range(at_most):
            if room not in self.core.rooms:
                return
            message, effects = self.core.next_message(room, self.now)
            self.do(effects)
            if message is None:
                return
            self.taken[room].append(message)

    @rule(seconds=st.sampled_from([0.1, 2.0, 200.0]))
    def pass_time(self, seconds: float) -> None:
        if seconds > 100:
            # Nothing is under way for so long: the client leaves a connection that is silent.
            self.exchange()
        self.now += seconds
        due = [room for when, room in self.timers if when <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for room in due:
            self.do(self.core.retry(room, self.now))

    # What the network does.

    @precondition(lambda self: not self.core.is_connected)
    @rule()
    def connect(self) -> None:
        self.do(self.core.connected(self.now))

    @precondition(lambda self: self.core.is_connected)
    @rule(code=st.sampled_from([1006, 1012, 1009]))
    def drop(self, code: int) -> None:
        self.up.clear()
        self.down.clear()
        self.members.clear()
        self.timers.clear()
        self.unheard_refusals.clear()
        self.do(self.core.disconnected(code))

    @rule(at_most=st.integers(1, 8))
    def hear(self, at_most: int) -> None:
        for _ in range(min(at_most, len(self.down))):
            text = self.down.popleft()
            message = json.loads(text)
            if message["type"] == "error":
                self.unheard_refusals.discard(message["id"])
            self.do(self.core.received(message, len(text), self.now))

    @rule(at_most=st.integers(1, 8))
    def serve(self, at_most: int) -> None:
        for _ in range(min(at_most, len(self.up))):
            self.answer(json.loads(self.up.popleft()))

    @rule()
    def exchange(self) -> None:
        """Let all that is under way arrive, and what answers it."""
        while self.up or self.down:
            self.serve(100)
            self.hear(100)

    # What the server does.

    def answer(self, message: dict[str, Any]) -> None:
        room, request_id = message["room"], message["id"]
        held = self.server[room]
        if self.refusal is not None:
            if self.refusal.endswith("stored") and message["type"] == "chat" and room in self.members:
                self.store(room, message)
            self.refuse(request_id, self.refusal.partition(",")[0])
        elif message["type"] == "join":
            self.answer_join(room, request_id, message.get("since"))
        elif message["type"] == "leave":
            self.members.discard(room)
            self.down.append(json.dumps({"type": "left", "room": room, "id": request_id}))
        elif room not in self.members:
            error = {"type": "error", "code": "not_in_room", "message": "join", "id": request_id}
            self.down.append(json.dumps(error))
        else:
            offset = self.store(room, message)
            ack = {"type": "ack", "id": request_id, "room": room, "epoch": held.epoch}
            self.tell(room, {**ack, "offset": offset})

    def store(self, room: str, message: dict[str, Any]) -> int:
        """Store a chat that is not known by its id; returns its offset."""
        held, request_id = self.server[room], message["id"]
        offset, stored_at = held.acknowledged.get(request_id, (0, 0.0))
        if not offset or self.now - stored_at > 300:
            offset = self.say(room, {"type": "chat", "text": message["text"]})["offset"]
            held.acknowledged[request_id] = (offset, self.now)
        return offset

    def refuse(self, request_id: str, code: str) -> None:
        error = {"type": "error", "code": code, "message": "wait", "retry_after_ms": 1500, "id": request_id}
        self.down.append(json.dumps(error))
        self.refused[request_id] += 1
        self.unheard_refusals.add(request_id)
        self.overtaken_by[request_id] |= {json.loads(text)["id"] for text in self.up}

    def answer_join(self, room: str, request_id: str, since: dict[str, Any] | None) -> None:
        held = self.server[room]
        recovered = since is not None and since["epoch"] == held.epoch and since["offset"] >= held.trimmed
        joined = {
            "type": "joined",
            "room": room,
            "room_size": 1,
            "offset": len(held.events),
            "epoch": held.epoch,
        }
        missed = held.events[since["offset"] :] if recovered and since is not None else []
        self.members.add(room)
        self.tell(
            room,
            {
                **joined,
                "id": request_id,
                "recovered": recovered,
                "messages": missed,
                "was_asked": since is not None,
            },
        )

    @rule(room=st.sampled_from(ROOMS), size=st.sampled_from([1, 60, 500]), times=st.integers(1, 4))
    def somebody_says(self, room: str, size: int, times: int) -> None:
        for _ in range(times):
            self.say(room, {"type": "chat", "text": "x" * size})

    @rule(room=st.sampled_from(ROOMS), is_lost=st.booleans())
    def misdeliver(self, room: str, is_lost: bool) -> None:
        """Say something that does not arrive, or arrives twice, through a fault of the server."""
        event = self.say(room, {"type": "chat", "text": "odd"})
        if room in self.members:
            if is_lost:
                self.rooms_with_losses.add(room)
                self.down.pop()
            else:
                self.tell(room, event)

    @rule(room=st.sampled_from(ROOMS))
    def somebody_comes(self, room: str) -> None:
        self.tell(room, {"type": "user_joined", "room": room, "user_id": "bob", "room_size": 2})

    @rule(room=st.sampled_from(ROOMS))
    def trim(self, room: str) -> None:
        self.server[room].trimmed = len(self.server[room].events)

    @rule()
    def lose_everything(self) -> None:
        """The server restarts without its data."""
        if self.core.is_connected:
            self.drop(1006)
        self.server = {room: ServerRoom(self.next_epoch()) for room in ROOMS}

    @rule(refusal=st.sampled_from([None, *REFUSALS]))
    def refuse_from_now_on(self, refusal: Refusal | None) -> None:
        self.refusal = refusal

    @precondition(lambda self: self.core.is_connected)
    @rule(
        room=st.sampled_from(ROOMS),
        refusal=st.sampled_from(REFUSALS),
        numbers=st.tuples(*[st.integers(1, 3)] * 3),
        is_heard=st.booleans(),
    )
    def refuse_a_while(
        self, room: str, refusal: Refusal, numbers: tuple[int, int, int], is_heard: bool
    ) -> None:
        """Refuse a few of the messages that are under way, and then no more."""
        self.exchange()
        said, refused, served = numbers
        self.chat(room, "send", said)
        self.refusal = refusal
        self.serve(refused)
        self.refusal = None
        self.serve(served - 1)
        if is_heard:
            self.hear(10)
            self.chat(room, "send", 1)

    # What must hold.

    @invariant()
    def each_event_once_in_order_or_told(self) -> None:
        for room, messages in self.taken.items():
            position: tuple[str, int] | None = None
            for message in messages:
                if message["type"] == "joined":
                    if not message["recovered"]:
                        assert position is None or message["was_asked"], "nothing was lost, nor asked for"
                        position = (message["epoch"], message["offset"])
                elif "offset" in message:
                    assert position == (message["epoch"], message["offset"] - 1)
                    position = (message["epoch"], message["offset"])
                    assert message == self.history[room, message["epoch"]][message["offset"] - 1]

    @invariant()
    def what_is_acknowledged_is_stored_once(self) -> None:
        for request_id, outcome in self.outcomes.items():
            room, text = self.asked[request_id]
            for (where, epoch), events in self.history.items():
                said = [event["offset"] for event in events if where == room and event["text"] == text]
                assert len(said) <= 1
                if isinstance(outcome, dict) and outcome["epoch"] == epoch and where == room:
                    assert said == [outcome["offset"]]

    @invariant()
    def what_is_said_is_stored_in_order(self) -> None:
        id_of = {said: request_id for request_id, said in self.asked.items()}
        rank = {request_id: number for number, request_id in enumerate(self.asked)}
        for (room, _), events in self.history.items():
            stored = [id_of[room, event["text"]] for event in events if (room, event["text"]) in id_of]
            for number, later in enumerate(stored):
                for earlier in stored[number + 1 :]:
                    assert rank[later] < rank[earlier] or later in self.overtaken_by[earlier]

    @invariant()
    def what_cannot_be_repeated_is_not(self) -> None:
        for request_id in self.fleeting:
            assert self.sent[request_id] <= 1 + self.refused[request_id]

    def teardown(self) -> None:
        """Let everything be well from now on."""
        self.refusal = None
        if not self.core.is_connected:
            self.connect()
        for room in self.rooms_with_losses:
            # Only what comes next shows that something was lost on the way.
            self.say(room, {"type": "chat", "text": "last"})
        for _ in range(20):
            self.pass_time(2.0)
            self.exchange()
            for room in ROOMS:
                self.take(room, 1000)
        assert set(self.outcomes) == set(self.asked), "every request is answered"
        assert self.members == set(self.core.rooms)
        for room, track in self.core.rooms.items():
            held = self.server[room]
            assert (track.taken.epoch, track.taken.offset) == (held.epoch, len(held.events))
        self.each_event_once_in_order_or_told()
        self.what_is_acknowledged_is_stored_once()


TestClientMachine = ClientMachine.TestCase
TestClientMachine.settings = settings(max_examples=300, stateful_step_count=40)
