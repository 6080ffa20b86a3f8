"""Members that wait for answers: each keeps so many requests of one kind unanswered, without pause."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum

import attrs
import msgspec

from bench.errors import BenchError
from bench.load.client import Client, Clients

_WAIT_SECONDS = 0.05


class Ask(StrEnum):
    """A kind of request."""

    CHAT = "chat"
    """A chat, acknowledged once it is stored."""
    KEYED = "keyed"
    """A call that is done once, as it has an id."""
    UNKEYED = "unkeyed"
    """A call without an id."""


_TEXTS: Mapping[Ask, str] = {
    Ask.CHAT: '{{"type":"chat","id":{number},"text":"{text}"}}',
    Ask.KEYED: '{{"type":"call","method":"add","id":{number}}}',
    Ask.UNKEYED: '{{"type":"call","method":"add"}}',
}
_TEXT = "x" * 64


class Answer(msgspec.Struct):
    """The fields that are read of the server's messages."""

    type: str
    data: int | None = None


@attrs.define
class Asked:
    """Answers in the measured time, and faults of the whole run."""

    answers: int = 0
    latencies_ns: list[int] = attrs.Factory(list)
    refused: int = 0
    lost: int = 0
    """Totals of a counter that are not one more than the one before."""
    disconnected: int = 0


@attrs.define
class _Asker:
    client: Client | None = None
    number: int = 0
    sent_at_ns: deque[int] = attrs.Factory(deque)
    total: int = 0


class Asking:
    """The load: a member for each target, alone in its room; the answers of a member come in the order of its requests."""

    def __init__(self, clients: Clients, targets: Sequence[str], ask: Ask, *, in_flight: int) -> None:
        self.asked = Asked()
        self._clients = clients
        self._ask = ask
        self._in_flight = in_flight
        self._askers = [_Asker() for _ in targets]
        self._decoder = msgspec.json.Decoder(Answer)
        self._is_asking = False
        for number, target in enumerate(targets):
            clients.connect(number, target)

    def join(self, seconds: float) -> None:
        """Wait until all are in their rooms.

        :raises BenchError: if that takes longer than `seconds`, or one is refused.
        """
        deadline = time.monotonic() + seconds
        while not all(asker.client for asker in self._askers):
            if time.monotonic() > deadline or self.asked.disconnected:
                raise BenchError("not every member could join")
            self._read()

    def run(self, seconds: float) -> float:
        """Ask for `seconds`, and return how long it was; what was counted before is dropped, but for faults."""
        self._is_asking = True
        self.asked.answers = 0
        self.asked.latencies_ns.clear()
        begin_ns = time.perf_counter_ns()
        for asker in self._askers:
            self._fill(asker)
        while time.perf_counter_ns() - begin_ns < seconds * 1e9 and not self.asked.disconnected:
            self._read()
        return (time.perf_counter_ns() - begin_ns) / 1e9

    def end(self, seconds: float) -> int:
        """Ask no more; return how many answers have still not come after `seconds`."""
        self._is_asking = False
        deadline = time.monotonic() + seconds
        while (waiting := self._waiting()) and time.monotonic() < deadline and not self.asked.disconnected:
            self._read()
        return waiting

    def _waiting(self) -> int:
        return sum(len(asker.sent_at_ns) for asker in self._askers)

    def _read(self) -> None:
        for client, texts in self._clients.events(_WAIT_SECONDS):
            if texts is None:
                self.asked.disconnected += 1
                continue
            asker = self._askers[client.number]
            now_ns = time.perf_counter_ns()
            for text in texts:
                self._hear(asker, client, self._decoder.decode(text), now_ns)
            if self._is_asking:
                self._fill(asker)

    def _hear(self, asker: _Asker, client: Client, answer: Answer, now_ns: int) -> None:
        match answer.type:
            case "joined":
                asker.client = client
            case "ack" | "result":
                self.asked.latencies_ns.append(now_ns - asker.sent_at_ns.popleft())
                self.asked.answers += 1
                if answer.data is not None:
                    # The counter may have been used before.
                    self.asked.lost += asker.total not in {0, answer.data - 1}
                    asker.total = answer.data
            case "error" | "gap":
                self.asked.refused += 1
            case _:
                pass

    def _fill(self, asker: _Asker) -> None:
        while asker.client is not None and len(asker.sent_at_ns) < self._in_flight:
            asker.number += 1
            text = _TEXTS[self._ask].format(number=asker.number, text=_TEXT)
            asker.sent_at_ns.append(time.perf_counter_ns())
            try:
                asker.client.send(text.encode())
            except OSError:
                # The end of the connection is told by its next event.
                return
