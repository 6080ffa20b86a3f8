"""Rooms with code for the tests, which say a record of each turn; see tests/support/turn_history.py."""

import os
from secrets import token_hex
from typing import Any

import msgspec

from broker.room_actors import Member, Message, RoomActor, Timer, call
from tests.support.turn_history import Answer, Turn

TIMER_SECONDS = 0.3
TURNS_PER_TIMER = 5


class Ledger(msgspec.Struct):
    number: int = 0
    value: int = 0


class RecordedRoom(RoomActor[Ledger]):
    """Numbers its turns; each says one event, the record of it, so that turn 7 has the offset 7."""

    owner = ""

    async def on_open(self) -> None:
        self.owner = f"{os.getpid()} {token_hex(4)}"
        self.say_turn("open")

    async def on_join(self, member: Member) -> None:
        self.say_turn("join", member.user_id)

    async def on_leave(self, member: Member) -> None:
        self.say_turn("leave", member.user_id)

    async def on_message(self, sender: Member | None, message: Message) -> Message:
        label = message.decode(str)
        return message.replaced(self.turn("message", label))

    async def on_timer(self, timer: Timer) -> None:
        self.say_turn("timer", timer.name)

    def turn(self, kind: str, label: str = "", change: int = 0, timer: str | None = None) -> Turn:
        """Change the state by one turn, and return the record of that."""
        before = self.state.value
        self.state.number += 1
        self.state.value += change
        return Turn(self.state.number, kind, label, before, self.state.value, self.owner, timer)

    def say_turn(self, kind: str, label: str = "", change: int = 0, timer: str | None = None) -> Answer:
        turn = self.turn(kind, label, change, timer)
        fields: dict[str, Any] = msgspec.structs.asdict(turn)
        self.say({"type": "turn", **fields})
        return Answer(turn.number, turn.before, turn.after, turn.owner)


class CountingRoom(RecordedRoom, pattern="counter.*"):
    @call
    async def add(self, sender: Member | None, request: tuple[str, int]) -> Answer:
        label, number = request
        if self.state.number % TURNS_PER_TIMER:
            return self.say_turn("call", label, number)
        timer = f"timer {self.state.number}"
        self.set_timer(timer, TIMER_SECONDS)
        return self.say_turn("call", label, number, timer)


class AuctionRoom(RecordedRoom, pattern="auction.*"):
    """Its value is the highest price; the first bid at a price wins."""

    @call
    async def add(self, sender: Member | None, request: tuple[str, int]) -> Answer | None:
        label, price = request
        if price <= self.state.value:
            return None
        # In the place of the one that the bid before has set: it fires once, after the last bid.
        self.set_timer("close", TIMER_SECONDS)
        return self.say_turn("call", label, price - self.state.value, "close")
