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


def write_plan(path: Path, crowd: Crowd, *, secret: str) -> None:
    """Write the file that the generator reads: a line `room publishes target` for each connection.

    Every connection is a user of its own, with a token signed with `secret`.
    """
    expires_at = int(time.time()) + _TOKEN_SECONDS
    with path.open("w") as plan:
        for number in range(crowd.connections):
            room, place = number % crowd.rooms, number // crowd.rooms
            token = jwt.encode({"sub": f"u{number}", "exp": expires_at}, secret, algorithm="HS256")
            target = f"/ws/{quote(f'bench-{room}')}?token={token}"
            plan.write(f"{room} {int(place < crowd.publishers)} {target}\n")
