"""The schedule by which a stopping server disconnects its clients. Pure."""

from random import Random


def plan_disconnects(count: int, window_seconds: float, random: Random) -> list[float]:
    """Return `count` delays in seconds, in random order, spread evenly over the window.

    One falls into each of `count` equal parts of the window, so that the remaining servers see a steady
    stream of clients instead of all at once.
    """
    delays = [window_seconds * (part + random.random()) / count for part in range(count)]
    random.shuffle(delays)
    return delays
