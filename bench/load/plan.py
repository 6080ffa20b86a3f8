"""The connections of a load: each with its room and its role."""

import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

import attrs
import jwt

_TOKEN_SECONDS = 3600
TARGET = "/ws/{room}?token={token}"
"""The request target of a member, for a server with Greenroom's protocol."""


class Role(StrEnum):
    """The task of a connection."""

    LISTEN = "listen"
    PUBLISH = "publish"
    """Speaks in its room; what the room hears is measured."""
    CROWD = "crowd"
    """Speaks as well, without pause, to keep the server busy; it is not measured."""
    PING = "ping"
    """Sends pings; the answers are measured."""
    NOISE = "noise"
    """Sends the same bytes again and again; it is not measured."""
    STALL = "stall"
    """Listens, and reads nothing any more once the load begins."""


@attrs.frozen
class Seat:
    """One connection: in which room, and what for."""

    room: int
    role: Role


@attrs.frozen
class Crowd:
    """`connections` members spread evenly over `rooms`; the first `publishers` of each room publish."""

    connections: int
    rooms: int
    publishers: int

    @property
    def members(self) -> tuple[int, int]:
        """Return how many connections the smallest and the biggest room have."""
        return self.connections // self.rooms, -(-self.connections // self.rooms)

    def seats(self) -> Iterator[Seat]:
        """Yield a seat for each: connection N is in room N modulo the number of rooms."""
        for number in range(self.connections):
            room, place = number % self.rooms, number // self.rooms
            yield Seat(room, Role.PUBLISH if place < self.publishers else Role.LISTEN)


def room_name(room: int) -> str:
    """Return what the servers know a room by."""
    return f"bench-{room}"


def targets_of(rooms: Iterable[int], *, secret: str, form: str = TARGET) -> Iterator[str]:
    """Yield what each connection asks for, given the room it goes to.

    Every connection is a user of its own, with a token signed with `secret`. `form` holds `{room}` and `{token}`.
    """
    expires_at = int(time.time()) + _TOKEN_SECONDS
    for number, room in enumerate(rooms):
        token = jwt.encode({"sub": f"u{number}", "exp": expires_at}, secret, algorithm="HS256")
        yield form.format(room=quote(room_name(room)), token=token)


def make_targets(crowd: Crowd, *, secret: str) -> list[str]:
    """Return what each connection of a crowd asks for."""
    return list(targets_of((seat.room for seat in crowd.seats()), secret=secret))


def write_plan(path: Path, seats: Iterable[Seat], *, secret: str, form: str = TARGET) -> None:
    """Write the file that the generator reads: a line `room role target` for each connection."""
    known = list(seats)
    targets = targets_of((seat.room for seat in known), secret=secret, form=form)
    with path.open("w") as plan:
        for seat, target in zip(known, targets, strict=True):
            plan.write(f"{seat.room} {seat.role} {target}\n")
