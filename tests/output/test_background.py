"""Items go to a thread in order, within bounded memory, and what is lost is counted and told."""

import gc
import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.output.background import BackgroundQueue
from broker.output.text import BackgroundText

SAFETY_SECONDS = 60.0
"""Nothing here waits so long, unless it is broken."""


class Gate:
    """Consumes items, but only as many as it was allowed."""

    def __init__(self, *, fails: Callable[[str], bool] = lambda _item: False) -> None:
        self.consumed: list[str] = []
        self._allowed = threading.Semaphore(0)
        self._fails = fails
        self.arrived = threading.Semaphore(0)

    def __call__(self, item: str) -> bool:
        self.arrived.release()
        assert self._allowed.acquire(timeout=SAFETY_SECONDS)
        if self._fails(item):
            return False
        self.consumed.append(item)
        return True

    def allow(self, count: int) -> None:
        self._allowed.release(count)


def loss(count: int) -> str:
    return f"lost {count}"


def told_lost(items: list[str]) -> int:
    return sum(int(item.removeprefix("lost ")) for item in items if item.startswith("lost "))


def test_a_consumer_that_stands_still_makes_nobody_wait() -> None:
    gate = Gate()
    queue = BackgroundQueue(gate, loss, limit_bytes=10)
    queue.put_nowait("first", 1)
    assert gate.arrived.acquire(timeout=SAFETY_SECONDS)
    for number in range(1000):
        queue.put_nowait(str(number), 1)
    assert queue.dropped == 990
    assert not queue.flush(0.0)
    gate.allow(2000)
    assert queue.flush(SAFETY_SECONDS)
    assert gate.consumed == ["first", *map(str, range(10)), "lost 990"]


def test_the_loss_is_told_where_it_happened() -> None:
    gate = Gate()
    queue = BackgroundQueue(gate, loss, limit_bytes=2)
    queue.put_nowait("a", 1)
    assert gate.arrived.acquire(timeout=SAFETY_SECONDS)
    for item in "bcde":
        queue.put_nowait(item, 1)
    gate.allow(1)
    assert gate.arrived.acquire(timeout=SAFETY_SECONDS)  # b is out of the queue, and leaves space
    queue.put_nowait("f", 1)
    gate.allow(100)
    assert queue.flush(SAFETY_SECONDS)
    assert gate.consumed == ["a", "b", "c", "lost 2", "f"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=60), st.integers(1, 12))
def test_each_item_is_consumed_in_order_or_told_as_lost(puts: list[tuple[int, bool]], limit: int) -> None:
    gate = Gate(fails=lambda item: item.endswith("!"))
    queue = BackgroundQueue(gate, loss, limit_bytes=limit)
    for number, (size, fails) in enumerate(puts):
        queue.put_nowait(f"{number}{'!' if fails else ''}", size)
        if number % 3 == 0:
            gate.allow(1)
    gate.allow(1000)
    assert queue.flush(SAFETY_SECONDS)
    # The last failures are told with the next item.
    queue.put_nowait("end", 1)
    assert queue.flush(SAFETY_SECONDS)
    numbers = [int(item) for item in gate.consumed if item.isdigit()]
    assert numbers == sorted(numbers)
    assert told_lost(gate.consumed) == queue.dropped == len(puts) - len(numbers)


def test_a_consumer_that_fails_for_ever_is_not_told_so_for_ever() -> None:
    gate = Gate(fails=lambda _item: True)
    gate.allow(1000)
    queue = BackgroundQueue(gate, loss)
    for number in range(10):
        queue.put_nowait(str(number), 1)
    assert queue.flush(SAFETY_SECONDS)
    assert queue.dropped == 10


def test_a_finalizer_may_log_in_the_midst_of_a_put() -> None:
    consumed: list[str] = []
    queue: BackgroundQueue[str] = BackgroundQueue(lambda item: consumed.append(item) is None, loss)

    class Final:
        def __init__(self) -> None:
            self.me = self  # a cycle, so that the collector runs the finalizer

        def __del__(self) -> None:
            queue.put_nowait("final", 1)

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            Final()
            queue.put_nowait("plain", 1)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert queue.flush(SAFETY_SECONDS)
    assert consumed.count("plain") == 200
    assert consumed.count("final") == 200


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_text_comes_out_in_whole_lines_in_any_encoding(encoding: str) -> None:
    reading, writing = os.pipe()
    text = BackgroundText(writing, encoding)
    for piece in ("a", "b\nc", "é→\udce9💩\n", "rest"):
        text.write(piece)
    assert text.drain(SAFETY_SECONDS)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        got = pipe.read()
    assert got == "ab\ncé→\udce9💩\nrest".encode(encoding, "backslashreplace")


def test_a_pipe_that_another_made_non_blocking_gets_all() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = BackgroundText(writing, "utf-8")
    lines = "".join(f"{number} {'x' * 1000}\n" for number in range(500))
    text.write(lines)
    with os.fdopen(reading, "rb") as pipe:
        got = pipe.read(len(lines))
    assert got.decode() == lines
    assert text.drain(SAFETY_SECONDS)
    os.close(writing)


def test_a_reader_that_has_gone_costs_lines_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    text = BackgroundText(writing, "utf-8")
    for number in range(10):
        text.write(f"{number}\n")
    assert text.drain(SAFETY_SECONDS)
    assert text.lines_dropped == 10
    os.close(writing)
