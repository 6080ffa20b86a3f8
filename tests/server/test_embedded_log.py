"""A program's logging handler that stands still must not stop the rooms in it, nor the program."""

import logging
import threading
from collections.abc import Iterator

import pytest
import trio

from broker import open_broker
from broker.config.settings import AuthSettings, HttpSettings, ServerSettings, Settings
from tests.support.secrets import API_KEY, SECRET

SAFETY_SECONDS = 60.0

SETTINGS = Settings(
    server=ServerSettings(port=0, drain_seconds=0),
    auth=AuthSettings(secret=SECRET),
    http=HttpSettings(api_key=API_KEY),
)


class Stuck(logging.Handler):
    """A handler whose reader has stopped: each record waits until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.has_all = threading.Event()
        """Set with the last line of a broker."""
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.goes_on.wait(SAFETY_SECONDS)
        self.records.append(record)
        if record.getMessage().startswith("draining "):
            self.has_all.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    handler = Stuck()
    logger = logging.getLogger("greenroom")
    before, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler
    finally:
        # What a thread has not given to this handler yet would come to that of the next test.
        handler.goes_on.set()
        assert handler.has_all.wait(SAFETY_SECONDS)
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagates


async def nonsense(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"nonsense\r\n\r\n")
        return bytes(await stream.receive_some())


async def test_rooms_serve_and_stop_while_a_handler_stands_still(stuck: Stuck) -> None:
    with trio.fail_after(SAFETY_SECONDS):
        async with open_broker(SETTINGS) as broker, trio.open_nursery() as nursery:
            url = await nursery.start(broker.serve)
            port = int(url.rpartition(":")[2])
            for _ in range(20):
                assert (await nonsense(port)).startswith(b"HTTP/1.1 400 ")
            broker.begin_drain()
    assert stuck.records == []


async def test_a_handler_that_goes_on_gets_all_before_the_broker_is_left(stuck: Stuck) -> None:
    stuck.goes_on.set()
    with trio.fail_after(SAFETY_SECONDS):
        async with open_broker(SETTINGS) as broker, trio.open_nursery() as nursery:
            url = await nursery.start(broker.serve)
            await nonsense(int(url.rpartition(":")[2]))
            broker.begin_drain()
    bad, draining = stuck.records
    assert bad.getMessage().startswith("bad request  why=bad_head address=127.0.0.1 ")
    assert (bad.name, bad.filename, bad.threadName) == ("greenroom", "refusals.py", "MainThread")
    assert draining.getMessage().startswith("draining ")
