"""Members of one node, held by a process of its own, who come back when they are sent away and account for every note."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import cast

import attrs
import msgspec

from bench import machine
from bench.errors import BenchError
from bench.load.client import Client, Clients, ConnectionFailedError
from bench.load.returning import NOTE, Note, Position, return_target
from bench.usage import latency_buckets

_WAIT_SECONDS = 0.02
_RETRY_NS = 1_000_000_000
"""Pause of a member before it tries again after it was refused."""
_ORDER_SECONDS = 60.0


class Told(msgspec.Struct):
    """The fields that are read of the server's messages."""

    type: str
    offset: int = 0
    number: int = 0
    at_ns: int = 0
    epoch: str = ""
    recovered: bool = False
    messages: list[Note] = []


@attrs.define(eq=False)
class Member:
    """One member: `position` is None before it has joined for the first time."""

    target: str
    position: Position | None = None
    is_inside: bool = False
    away_at_ns: int = 0


@attrs.define
class Held:
    """The state of all members of a process; times are of the monotonic clock, which all processes share.

    `arrivals` counts the deliveries of each note, live or recovered, in its place; `told_at_ns` and `away_at_ns` are when the last
    `reconnect` was read and the last connection ended. The buckets are of what came since the last question.
    """

    inside: int = 0
    told: int = 0
    told_at_ns: int = 0
    away: int = 0
    away_at_ns: int = 0
    inside_at_ns: int = 0
    refusals: dict[str, int] = attrs.Factory(dict)
    not_recovered: int = 0
    lost: int = 0
    repeated: int = 0
    arrivals: dict[int, int] = attrs.Factory(dict)
    delivered_ns: list[tuple[int, int]] = attrs.Factory(list)
    back_ns: list[tuple[int, int]] = attrs.Factory(list)
    cpu_seconds: float = 0.0


@attrs.frozen
class Order:
    """Where members are to go that are not connected, in turn; nowhere without ports. `connecting` go at once."""

    ports: tuple[int, ...]
    connecting: int


@attrs.define
class Holder:
    """The loop of the process."""

    clients: Clients
    members: list[Member]
    order: Order = Order((), 1)
    held: Held = attrs.Factory(Held)
    arrivals: Counter[int] = attrs.Factory(Counter)
    refusals: Counter[str] = attrs.Factory(Counter)
    waiting: list[int] = attrs.Factory(list)
    late: list[tuple[int, int]] = attrs.Factory(list)
    connecting: int = 0
    turn: int = 0
    delivered_ns: list[int] = attrs.Factory(list)
    back_ns: list[int] = attrs.Factory(list)
    decoder: msgspec.json.Decoder[Told] = attrs.Factory(lambda: msgspec.json.Decoder(Told))

    def serve(self, orders: Connection) -> None:
        """Follow orders and report until the other side is closed."""
        self.waiting = list(reversed(range(len(self.members))))
        while True:
            while orders.poll():
                try:
                    order = orders.recv()
                except EOFError:
                    return
                self.order = order or self.order
                orders.send(self.report())
            self._send_off()
            self._turn()

    def report(self) -> Held:
        """Return the state, and begin new buckets."""
        delivered, self.delivered_ns = latency_buckets(self.delivered_ns), []
        back, self.back_ns = latency_buckets(self.back_ns), []
        return attrs.evolve(
            self.held,
            arrivals=dict(self.arrivals),
            refusals=dict(self.refusals),
            delivered_ns=delivered,
            back_ns=back,
            cpu_seconds=time.process_time(),
        )

    def _send_off(self) -> None:
        """Let members connect that are waiting."""
        now_ns = time.monotonic_ns()
        while self.late and self.late[0][0] <= now_ns:
            self.waiting.append(self.late.pop(0)[1])
        ports = self.order.ports
        while ports and self.waiting and self.connecting < self.order.connecting:
            number = self.waiting.pop()
            member = self.members[number]
            target = return_target(member.target, member.position) if member.position else member.target
            self.turn += 1
            self.connecting += 1
            self.clients.connect(number, target, port=ports[self.turn % len(ports)])

    def _turn(self) -> None:
        try:
            for client, texts in self.clients.events(_WAIT_SECONDS):
                for text in texts or ():
                    self.note(self.members[client.number], self.decoder.decode(text))
                if texts is None:
                    self._lost(client)
        except ConnectionFailedError as failed:
            self._refused(failed.number, failed.why)

    def _lost(self, client: Client) -> None:
        member = self.members[client.number]
        if member.is_inside:
            member.is_inside = False
            self.held.inside -= 1
            self.held.away += 1
            self.held.away_at_ns = member.away_at_ns = time.monotonic_ns()
            self.waiting.append(client.number)
        else:
            stage = "the room" if client.is_open else "the handshake"
            self._refused(client.number, f"ended before {stage}, close code {client.close_code}")

    def _refused(self, number: int, why: str) -> None:
        self.refusals[why] += 1
        self.connecting -= 1
        self.late.append((time.monotonic_ns() + _RETRY_NS, number))

    def note(self, member: Member, told: Told) -> None:
        """Account for a message to a member."""
        if told.type == NOTE and member.position is not None:
            self._take(member, Note(told.offset, told.number))
            self.delivered_ns.append(time.monotonic_ns() - told.at_ns)
        elif told.type == "joined":
            self._joined(member, told)
        elif told.type == "reconnect":
            self.held.told += 1
            self.held.told_at_ns = time.monotonic_ns()

    def _joined(self, member: Member, told: Told) -> None:
        now_ns = time.monotonic_ns()
        member.is_inside = True
        self.connecting -= 1
        self.held.inside += 1
        self.held.inside_at_ns = now_ns
        if member.position is None:
            member.position = Position(told.offset, told.epoch, 0)
            return
        self.back_ns.append(now_ns - member.away_at_ns)
        self.held.not_recovered += not told.recovered or told.epoch != member.position.epoch
        for note in told.messages:
            self._take(member, note)

    def _take(self, member: Member, note: Note) -> None:
        """Account for a note, live or recovered; `lost` are those that it skips."""
        assert member.position is not None
        expected = member.position.number + 1
        if note.number < expected:
            self.held.repeated += 1
            return
        self.held.lost += note.number - expected
        self.arrivals[note.number] += 1
        member.position = Position(note.offset, member.position.epoch, note.number)


def _hold(orders: Connection, host: str, targets: Sequence[str]) -> None:
    machine.allow_connections(len(targets))
    with Clients(host, 0) as clients:
        Holder(clients, [Member(target) for target in targets]).serve(orders)


@contextmanager
def holding(host: str, targets: Sequence[str]) -> Iterator["Remote"]:
    """Run a process that holds a member for each target until the block ends."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(theirs, host, targets), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Remote(ours, len(targets))
    finally:
        ours.close()
        process.join(_ORDER_SECONDS)
        process.kill()
        process.join()


@attrs.frozen
class Remote:
    """The other side of a process that holds `size` members."""

    orders: Connection
    size: int

    def ask(self, order: Order | None = None) -> Held:
        """Give an order, if there is one, and return the state.

        :raises BenchError: if the process does not answer.
        """
        try:
            self.orders.send(order)
            if self.orders.poll(_ORDER_SECONDS):
                return cast("Held", self.orders.recv())
        except (EOFError, OSError) as error:
            raise BenchError(f"a process of the load has ended: {error!r}") from error
        raise BenchError("a process of the load does not answer")
