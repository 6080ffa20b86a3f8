"""One Redis server as the engine sees it: the way there, the feed from there, and how it is."""

import attrs
import trio

from broker.engine.redis.board import Board
from broker.engine.redis.feed import ServerFeed
from broker.engine.redis.health import Health
from broker.engine.redis.lease import Lease
from broker.engine.redis.link import Link
from broker.engine.redis.probe import Probe


@attrs.frozen
class Server:
    """The parts that belong to one server."""

    name: str
    link: Link
    feed: ServerFeed
    board: Board
    lease: Lease
    probe: Probe
    health: Health

    async def run(self) -> None:
        """Keep everything up until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self.feed.run)
            nursery.start_soon(self.board.run)
            nursery.start_soon(self.probe.run)
