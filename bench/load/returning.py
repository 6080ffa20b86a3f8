"""Clients that were all cut off and come back at once, each with what it last knew; and what they are told."""

import time
from collections.abc import Sequence
from urllib.parse import quote

import attrs
import msgspec

from bench.errors import BenchError
from bench.load.client import Clients

NOTE = "note"
"""The type of the messages that are published; each has a `number`, rising by one in its room."""

_WAIT_SECONDS = 0.05


class Note(msgspec.Struct):
    """One event of a history; `number` is ours, `offset` the server's."""

    offset: int
    number: int


class Told(msgspec.Struct):
    """The fields that are read of the server's messages; all but the first only of `joined`."""

    type: str
    offset: int = 0
    epoch: str = ""
    recovered: bool = False
    messages: list[Note] = []


@attrs.frozen
class Position:
    """The last position of a client in its room: the offset and epoch, and the number of the note there."""

    offset: int
    epoch: str
    number: int


@attrs.define
class Returned:
    """When each client had caught up, from the common start, and what went wrong."""

    caught_up_ns: list[int] = attrs.Factory(list)
    not_recovered: int = 0
    lost: int = 0
    repeated: int = 0
    disconnected: int = 0
    too_late: int = 0


def return_target(target: str, position: Position) -> str:
    """Return `target` with the position to recover from."""
    return f"{target}&offset={position.offset}&epoch={quote(position.epoch, safe='')}"


def faults_of(joined: Told, position: Position, missed: int) -> tuple[int, int]:
    """Return how many of the `missed` notes after `position` were not told, and how many told were none of them.

    A note counts only where it must be: the n-th after the position has the n-th offset and the n-th number.
    """
    expected = {(position.offset + n, position.number + n) for n in range(1, missed + 1)}
    told = [(note.offset, note.number) for note in joined.messages]
    in_order = told == sorted(told)
    lost = len(expected - set(told)) if in_order else len(expected)
    return lost, len(told) - (len(expected) - lost)


def join_all(clients: Clients, targets: Sequence[str], *, number: int, seconds: float) -> list[Position]:
    """Connect to each target and return what each client then knows; `number` is that of the last note.

    :raises BenchError: if one is refused or cut off, or not all have joined after `seconds`.
    """
    known: dict[int, Position] = {}
    decoder = msgspec.json.Decoder(Told)
    deadline = time.monotonic() + seconds
    for place, target in enumerate(targets):
        clients.connect(place, target)
    while len(known) < len(targets):
        for client, texts in clients.events(_WAIT_SECONDS):
            if texts is None:
                raise BenchError(f"connection {client.number} was cut off")
            if client.number not in known:
                joined = decoder.decode(texts[0])
                known[client.number] = Position(joined.offset, joined.epoch, number)
        if time.monotonic() > deadline:
            raise BenchError(f"{len(targets) - len(known)} clients have not joined after {seconds:g} s")
    return [known[place] for place in range(len(targets))]


def come_back(
    clients: Clients, targets: Sequence[str], positions: Sequence[Position], *, missed: int, seconds: float
) -> Returned:
    """Connect to each target with its position, all at once, and wait until each has heard what it missed.

    :raises BenchError: if a handshake is refused.
    """
    returned = Returned()
    decoder = msgspec.json.Decoder(Told)
    waiting = set(range(len(targets)))
    requests = [return_target(target, known) for target, known in zip(targets, positions, strict=True)]
    begin_ns = time.perf_counter_ns()
    for place, request in enumerate(requests):
        clients.connect(place, request)
    while waiting and time.perf_counter_ns() - begin_ns < seconds * 1e9:
        for client, texts in clients.events(_WAIT_SECONDS):
            for told in map(decoder.decode, texts or ()):
                if client.number not in waiting:
                    # All was published before: it has been told already.
                    returned.repeated += told.type == NOTE
                elif _judge(returned, told, positions[client.number], missed):
                    returned.caught_up_ns.append(time.perf_counter_ns() - begin_ns)
                    waiting.discard(client.number)
            if texts is None:
                returned.disconnected += 1
                waiting.discard(client.number)
    returned.too_late = len(waiting)
    return returned


def _judge(returned: Returned, told: Told, position: Position, missed: int) -> bool:
    """Count what is wrong with a client's first message; return whether it is `joined`, as it must be."""
    if told.type != "joined":
        returned.not_recovered += 1
        return False
    returned.not_recovered += not told.recovered or told.epoch != position.epoch
    lost, repeated = faults_of(told, position, missed)
    returned.lost += lost
    returned.repeated += repeated
    return True
