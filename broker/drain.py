"""When each client of a stopping server is sent away. Pure."""

from random import Random


def plan_departures(count: int, window_seconds: float, random: Random) -> list[float]:
    """Return `count` delays in seconds, in random order, spread evenly over the window.

    One falls into each of `count` equal parts of the window, so that the servers that take over see a
    steady stream of clients and no stampede.
    """
    delays = [window_seconds * (part + random.random()) / count for part in range(count)]
    random.shuffle(delays)
    return delays
