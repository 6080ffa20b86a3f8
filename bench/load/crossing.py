"""One who speaks on one node, and one who listens on another: when each hears of it, and when a Redis has healed."""

import time
from collections.abc import Callable
from typing import NamedTuple

import attrs
import msgspec

from bench.errors import BenchError
from bench.load.client import Client, Clients

NEAR, FAR = 0, 1
"""The numbers of their connections; the one who speaks is near."""

_WAIT_SECONDS = 0.005
_AGAIN_SECONDS = 0.01


class Told(msgspec.Struct):
    """The fields that are read of a server's messages."""

    type: str
    id: int | None = None
    text: str = ""
    code: str = ""


class Moment(NamedTuple):
    """A message that one of the two received, and when."""

    number: int
    at_ns: int
    told: Told


@attrs.define
class Crossing:
    """When each message was acknowledged, and when it was heard near and far, from when it was first sent."""

    acked_ns: list[int] = attrs.Factory(list)
    near_ns: list[int] = attrs.Factory(list)
    far_ns: list[int] = attrs.Factory(list)
    refused: int = 0
    strayed: int = 0


class Pair:
    """The two of them, in one room."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._by_number: dict[int, Client] = {}
        self._decoder = msgspec.json.Decoder(Told)
        self._said = 0

    def join(self, targets: tuple[str, str], ports: tuple[int, int], seconds: float) -> None:
        """Connect them; wait until both are in the room.

        :raises BenchError: if that takes longer than `seconds`.
        """
        for number in (NEAR, FAR):
            self._clients.connect(number, targets[number], port=ports[number])
        deadline = time.monotonic() + seconds
        while len(self._by_number) < 2:
            if time.monotonic() > deadline:
                raise BenchError("the two nodes did not let their clients in")
            self._turn()

    def speak(self, seconds: float, *, per_second: float) -> Crossing:
        """Say something so many times a second, each once the one before has been heard by both.

        :raises BenchError: if one is not heard by both within 10 s.
        """
        crossing, begin = Crossing(), time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            self.say(crossing, 10.0)
            due = (int(passed * per_second) + 1) / per_second
            time.sleep(max(0.0, begin + due - time.monotonic()))
        return crossing

    def say(self, crossing: Crossing, seconds: float, attend: Callable[[], None] = lambda: None) -> None:
        """Say one thing, again while it is refused, until it was acknowledged and both have heard it.

        :raises BenchError: if that takes longer than `seconds`.
        """
        self._said += 1
        text = f"message {self._said}"
        begin_ns, again_at = time.perf_counter_ns(), 0.0
        waiting = {"ack": crossing.acked_ns, "near": crossing.near_ns, "far": crossing.far_ns}
        is_sent = False
        while waiting:
            if not is_sent and time.monotonic() >= again_at:
                self._send(text)
                is_sent = True
            attend()
            for moment in self._turn():
                event = _event_of(moment, self._said, text)
                if event in waiting:
                    waiting.pop(event).append(moment.at_ns - begin_ns)
                elif event == "refused":
                    crossing.refused += 1
                    is_sent, again_at = False, time.monotonic() + _AGAIN_SECONDS
                elif event is not None:
                    crossing.strayed += 1
            if time.perf_counter_ns() - begin_ns > seconds * 1e9:
                raise BenchError(f"after {seconds:g} s there was no {', no '.join(waiting)} of a message")

    def _send(self, text: str) -> None:
        chat = msgspec.json.encode({"type": "chat", "id": self._said, "text": text})
        try:
            self._by_number[NEAR].send(chat)
        except OSError as error:
            raise BenchError(f"a node has ended a connection: {error}") from error

    def _turn(self) -> list[Moment]:
        moments = []
        for client, texts in self._clients.events(_WAIT_SECONDS):
            at_ns = time.perf_counter_ns()
            if texts is None:
                raise BenchError("a node has ended a connection")
            for told in map(self._decoder.decode, texts):
                if told.type == "joined":
                    self._by_number[client.number] = client
                moments.append(Moment(client.number, at_ns, told))
        return moments


def _event_of(moment: Moment, said: int, text: str) -> str | None:
    """Return what a message means for the one that was said last; None if nothing."""
    told = moment.told
    if told.type == "ack" and told.id == said:
        return "ack"
    if told.type == "error" and told.id == said and told.code == "unavailable":
        return "refused"
    if told.type == "chat" and told.text == text:
        return "far" if moment.number == FAR else "near"
    return "strayed" if told.type in {"ack", "error", "chat", "gap"} else None
