"""Who connects to which room, and who publishes there."""

import time
from pathlib import Path
from urllib.parse import quote

import attrs
import jwt

_TOKEN_SECONDS = 3600


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


def room_name(room: int) -> str:
    """Return what the servers know a room by."""
    return f"bench-{room}"


def make_targets(crowd: Crowd, *, secret: str) -> list[str]:
    """Return what each connection asks for: the one with number N is in room N modulo the number of rooms.

    Every connection is a user of its own, with a token signed with `secret`.
    """
    expires_at = int(time.time()) + _TOKEN_SECONDS
    targets = []
    for number in range(crowd.connections):
        token = jwt.encode({"sub": f"u{number}", "exp": expires_at}, secret, algorithm="HS256")
        targets.append(f"/ws/{quote(room_name(number % crowd.rooms))}?token={token}")
    return targets


def write_plan(path: Path, crowd: Crowd, *, secret: str) -> None:
    """Write the file that the generator reads: a line `room publishes target` for each connection."""
    with path.open("w") as plan:
        for number, target in enumerate(make_targets(crowd, secret=secret)):
            room, place = number % crowd.rooms, number // crowd.rooms
            plan.write(f"{room} {int(place < crowd.publishers)} {target}\n")
