"""Forks children that go on with the parent's publisher, while threads of the parent are using it."""

import asyncio
import multiprocessing
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import partial

from broker.client import AsyncPublisher, Publisher

kind, url, api_key = sys.argv[1:4]
children, messages = map(int, sys.argv[4:])

# Python 3.12 and later warn of what this is about.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
fork = multiprocessing.get_context("fork")


def run_children(child: Callable[[int], None]) -> None:
    processes = [fork.Process(target=child, args=(number,)) for number in range(children)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * children


def with_publisher(threads_count: int) -> None:
    with Publisher(url, api_key, timeout_seconds=60) as publisher:

        def publish(room: str, n: int) -> None:
            publisher.publish(room, {"type": "note", "n": n})

        is_over = threading.Event()

        def keep_busy() -> None:
            n = 0
            while not is_over.is_set():
                publish("parent", n)
                n += 1

        threads = [threading.Thread(target=keep_busy) for _ in range(threads_count)]
        publish("parent", -1)
        for thread in threads:
            thread.start()

        def child(number: int) -> None:
            for n in range(messages):
                publish(f"child-{number}", n)

        run_children(child)
        is_over.set()
        for thread in threads:
            thread.join()
        publish("parent", -2)


def with_async_publisher() -> None:
    publisher = AsyncPublisher(url, api_key, timeout_seconds=60)

    async def publish(room: str, *numbers: int) -> None:
        for n in numbers:
            await publisher.publish(room, {"type": "note", "n": n})

    # Used in the parent's loop before the fork, and in a loop of each child's own after it.
    loop = asyncio.new_event_loop()

    def run(work: Awaitable[None]) -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)

    run(publish("parent", 1))

    def child(number: int) -> None:
        asyncio.run(publish(f"child-{number}", *range(messages)))

    run_children(child)
    run(publish("parent", 2))
    run(publisher.aclose())
    loop.close()


# A connection that idles at the fork would be used by all children; one that threads use has locks that are held.
{
    "idle": partial(with_publisher, 0),
    "busy": partial(with_publisher, 3),
    "async": with_async_publisher,
}[kind]()
