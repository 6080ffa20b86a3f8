"""Whatever an application answers, whenever: every request is answered in time, in order, and holds up no other room."""

from collections.abc import Mapping
from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.hooks import Hook
from broker.hooks.breaker import FAILURES_IN_A_ROW
from tests.support.node import _open_node as open_node
from tests.support.peers import Client

ROOMS = ("slow a", "slow b", "free")
LIMIT_SECONDS = 2.0
REFUSAL = {"allow": False, "reason": "no"}

answers = st.sampled_from(["allow", "refuse", "hang", "rubbish", "raise", "slow", "change"])


@attrs.define
class Application:
    """Answers each message as its text says, each call as its method says, and each join as the name of the room says,
    after a while."""

    async def decide(self, ask: Mapping[str, Any]) -> Mapping[str, Any]:
        if ask["room"] in ROOMS and ask["type"] == "join":
            return {"allow": True}
        match ask["type"]:
            case "publish":
                said = ask["message"]["text"]
            case "call":
                said = ask["call"]["method"]
            case _:
                said = ask["room"]
        answer, _, seconds = said.partition(" ")[2].partition(" ")
        await trio.sleep(float(seconds))
        match answer:
            case "allow" | "slow" | "change" if ask["type"] == "call":
                return {"allow": True, "data": {**ask["call"], "room": ask["room"], "user": ask["user_id"]}}
            case "allow" | "slow":
                return {"allow": True}
            case "change" if ask["type"] == "publish":
                return {"allow": True, "message": {"text": ask["message"]["text"] + " changed"}}
            case "refuse":
                return REFUSAL
            case "rubbish":
                return {"allow": "perhaps"}
            case "raise":
                raise ValueError
        await trio.sleep_forever()
        raise AssertionError


@attrs.frozen
class Step:
    """A message or a call of a client in a room, sent at a time; or, with no room, the join of a room of its own."""

    at: float
    client: int
    room: str | None
    answer: str
    takes: float
    is_call: bool

    def has_result(self) -> bool:
        """Whether the application answers it, as a call, in time."""
        return self.answer in {"allow", "slow", "change"} and self.takes < LIMIT_SECONDS

    def result(self, index: int) -> dict[str, Any]:
        """Return the data of its answer."""
        call = {"method": f"{index} {self.answer} {self.takes}", "data": index, "id": index}
        return {**call, "room": self.room, "user": f"user {self.client}"}

    def is_failure(self) -> bool:
        """Whether the application fails to answer it."""
        return self.answer in {"hang", "rubbish", "raise"} or self.takes >= LIMIT_SECONDS


steps = st.builds(
    Step,
    at=st.floats(0, 6).map(lambda at: round(at, 2)),
    client=st.integers(0, 2),
    room=st.sampled_from([*ROOMS, None]),
    answer=answers,
    takes=st.sampled_from([0, 0.01, 0.5, 1.5, 1.99, 2.5]),
    is_call=st.booleans(),
)


async def run(script: list[Step], when_away: str) -> None:
    hook = Hook(
        Application().decide,
        on=["join", "publish", "call"],
        rooms=["slow*"],
        timeout_seconds=LIMIT_SECONDS,
        when_away="allow" if when_away == "allow" else "refuse",
    )
    async with open_node(hooks=[hook]) as node:
        clients = [await node.client(f"user {number}", auto_join=list(ROOMS)) for number in range(3)]
        for client in clients:
            await client.settle()
        began = trio.current_time()
        answered: dict[int, tuple[float, str]] = {}
        heard: list[list[tuple[str, str]]] = [[] for _ in clients]

        async def read(number: int, client: Client) -> None:
            while True:
                message = await client.receive()
                if message["type"] in {"ack", "error", "joined", "result"}:
                    assert message["id"] not in answered, "answered twice"
                    answered[message["id"]] = (trio.current_time() - began, message["type"])
                    assert script[message["id"]].client == number, "the answer to another"
                    assert message["type"] != "result" or message["data"] == script[message["id"]].result(
                        message["id"]
                    )
                elif message["type"] == "chat":
                    heard[number].append((message["room"], message["text"]))

        async def send(index: int, step: Step) -> None:
            await trio.sleep(step.at)
            text = f"{index} {step.answer} {step.takes}"
            if step.room is None:
                await clients[step.client].send(type="join", room=f"slow{text}", id=index)
                return
            said = (
                {"type": "call", "method": text, "data": index}
                if step.is_call
                else {"type": "chat", "text": text}
            )
            await clients[step.client].send(**said, room=step.room, id=index)

        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                nursery.start_soon(read, number, client)
            for index, step in enumerate(script):
                nursery.start_soon(send, index, step)
            await trio.sleep(10 + LIMIT_SECONDS * len(script))
            nursery.cancel_scope.cancel()
        check(script, answered, heard, when_away)


def check(
    script: list[Step],
    answered: dict[int, tuple[float, str]],
    heard: list[list[tuple[str, str]]],
    when_away: str,
) -> None:
    assert sorted(answered) == list(range(len(script))), "each request is answered"
    for index, step in enumerate(script):
        at, kind = answered[index]
        if step.room == "free":
            # No hook answers calls there.
            expected = "error" if step.is_call else "ack"
            assert (at - step.at < 0.01, kind) == (True, expected), "no room waits for another"
            continue
        if step.room is None:
            assert at - step.at <= LIMIT_SECONDS + 0.01
            if step.answer == "refuse" and step.takes < LIMIT_SECONDS and when_away == "refuse":
                assert kind == "error"
            continue
        # Those before it in the same room of the same connection, and nobody else, may each take the limit.
        before = [other for other in script if (other.client, other.room) == (step.client, step.room)]
        ahead = sum(other.at <= step.at for other in before)
        assert at - step.at <= LIMIT_SECONDS * ahead + 0.01
        if step.answer == "refuse" and step.takes < LIMIT_SECONDS and when_away == "refuse":
            assert kind == "error"
    check_calls(script, answered)
    for texts in heard:
        assert texts == heard[0], "everybody hears the same, in one order"
        for client in range(3):
            for room in ROOMS:
                said = [int(text.split(" ")[0]) for where, text in texts if where == room]
                own = [index for index in said if script[index].client == client]
                assert own == sorted(own, key=lambda index: script[index].at), "in the order of its sender"
    acked = {index for index, (_, kind) in answered.items() if kind == "ack"}
    assert {int(text.split(" ")[0]) for _, text in heard[0]} == acked, "what is acknowledged is heard"


def check_calls(script: list[Step], answered: dict[int, tuple[float, str]]) -> None:
    failures = sum(step.is_failure() for step in script)
    calls = [(step, *answered[index]) for index, step in enumerate(script) if step.is_call and step.room]
    for step, at, kind in calls:
        if step.room == "free" or not step.has_result():
            assert kind == "error", "whatever holds while the application is away"
        elif failures < FAILURES_IN_A_ROW:
            assert kind == "result"
        later = [
            other_at
            for other, other_at, _ in calls
            if (other.client, other.room) == (step.client, step.room) and other.at > step.at
        ]
        assert all(at <= other_at for other_at in later), "in order"


@given(
    st.lists(steps, min_size=1, max_size=14, unique_by=lambda step: step.at),
    st.sampled_from(["refuse", "allow"]),
)
@settings(max_examples=12, deadline=None)
def test_every_request_is_answered_in_time_and_in_order(script: list[Step], when_away: str) -> None:
    trio.run(run, script, when_away, clock=MockClock(autojump_threshold=0))
