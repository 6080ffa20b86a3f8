"""Publishers that wait for acknowledgements: each keeps so many messages outstanding, without pause."""

import time

import attrs
import msgspec

from bench.errors import BenchError
from bench.load.client import Client, Clients

_WAIT_SECONDS = 0.05


class Told(msgspec.Struct):
    """The fields that are read of the server's messages."""

    type: str
    id: int | None = None
    offset: int | None = None
    code: str | None = None


@attrs.define
class Publisher:
    """One publisher with its counts of sent and received messages; it has a client once it is in its room."""

    client: Client | None = None
    sent: int = 0
    sent_at_ns: dict[int, int] = attrs.Factory(dict)
    acked_offset: int = 0
    heard_offset: int | None = None


@attrs.define
class Counted:
    """Acknowledgements in the measured window, latencies of what was sent in it, and faults of the whole run."""

    acks: int = 0
    latencies_ns: list[int] = attrs.Factory(list)
    refused: int = 0
    out_of_order: int = 0
    lost: int = 0
    disconnected: int = 0


class Publishing:
    """The load: publishers, and what they count."""

    def __init__(self, clients: Clients, publishers: int, *, in_flight: int, message_bytes: int) -> None:
        self.counted = Counted()
        self._clients = clients
        self._publishers = [Publisher() for _ in range(publishers)]
        self._in_flight = in_flight
        self._text = "x" * message_bytes
        self._decoder = msgspec.json.Decoder(Told)
        self._measured_from_ns: int | None = None
        self._is_publishing = False

    def join(self, seconds: float) -> None:
        """Wait until all are in their rooms.

        :raises BenchError: if that takes longer than `seconds`, or one is refused.
        """
        deadline = time.monotonic() + seconds
        while not all(publisher.client for publisher in self._publishers):
            if time.monotonic() > deadline or self.counted.disconnected:
                raise BenchError("not every publisher could join")
            self._turn()

    def run(self, seconds: float, *, measured: bool) -> float:
        """Publish for `seconds`, and return how long it was; what was counted before a measured run is dropped."""
        self._is_publishing = True
        begin_ns = time.perf_counter_ns()
        if measured:
            self._measured_from_ns = begin_ns
            self.counted.acks = 0
        for publisher in self._publishers:
            self._fill(publisher)
        while time.perf_counter_ns() - begin_ns < seconds * 1e9 and not self.counted.disconnected:
            self._turn()
        return (time.perf_counter_ns() - begin_ns) / 1e9

    def end(self, seconds: float) -> int:
        """Publish no more; return how many acknowledgements have still not come after `seconds`."""
        acks = self.counted.acks
        self._is_publishing = False
        deadline = time.monotonic() + seconds
        while (waiting := self._waiting()) and time.monotonic() < deadline and not self.counted.disconnected:
            self._turn()
        self.counted.acks = acks
        return waiting

    def _waiting(self) -> int:
        return sum(len(publisher.sent_at_ns) for publisher in self._publishers)

    def _turn(self) -> None:
        for client, texts in self._clients.events(_WAIT_SECONDS):
            if texts is None:
                self.counted.disconnected += 1
                continue
            publisher = self._publishers[client.number]
            now_ns = time.perf_counter_ns()
            for text in texts:
                told = self._decoder.decode(text)
                if told.type == "joined":
                    publisher.client = client
                self._hear(publisher, told, now_ns)
            if self._is_publishing:
                self._fill(publisher)

    def _hear(self, publisher: Publisher, told: Told, now_ns: int) -> None:
        match told.type:
            case "ack":
                self._acked(publisher, told, now_ns)
            case "chat" if told.offset is not None:
                if publisher.heard_offset is not None and told.offset != publisher.heard_offset + 1:
                    self.counted.lost += 1
                publisher.heard_offset = told.offset
            case "error" | "gap":
                self.counted.refused += 1
            case _:
                pass

    def _acked(self, publisher: Publisher, told: Told, now_ns: int) -> None:
        sent_at_ns = publisher.sent_at_ns.pop(told.id, None) if told.id is not None else None
        if sent_at_ns is None or told.offset is None or told.offset <= publisher.acked_offset:
            self.counted.out_of_order += 1
            return
        publisher.acked_offset = told.offset
        self.counted.acks += 1
        if self._measured_from_ns is not None and sent_at_ns >= self._measured_from_ns:
            self.counted.latencies_ns.append(now_ns - sent_at_ns)

    def _fill(self, publisher: Publisher) -> None:
        """Send what may be in flight, one write for each message."""
        while publisher.client is not None and len(publisher.sent_at_ns) < self._in_flight:
            publisher.sent += 1
            chat = f'{{"type":"chat","id":{publisher.sent},"text":"{self._text}"}}'
            publisher.sent_at_ns[publisher.sent] = time.perf_counter_ns()
            try:
                publisher.client.send(chat.encode())
            except OSError:
                # The end of the connection is told by its next event.
                return
