"""Fixtures of pytest, found by their entry point wherever Greenroom is installed; `docs/testing.md` has recipes.

A module by itself, as `_greenroom` is: at the start of pytest nothing of the broker is imported, which takes half a
second, and a `broker` of the project that is tested hides nothing.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from broker.config.settings import Settings
    from broker.room_actors.actor import RoomActor
    from broker.testing import FakeAsyncPublisher, FakePublisher, RunningBroker, World

# ruff: noqa: PLC0415  # see above


@pytest.fixture
def fake_publisher() -> "FakePublisher":
    """Record what is published, in its `record`."""
    from broker.testing import FakePublisher

    return FakePublisher()


@pytest.fixture
def fake_async_publisher(fake_publisher: "FakePublisher") -> "FakeAsyncPublisher":
    """Record what is published, in the `record` that it shares with `fake_publisher`."""
    from broker.testing import FakeAsyncPublisher

    return FakeAsyncPublisher(fake_publisher.record)


@pytest.fixture
def greenroom_rooms() -> "Sequence[type[RoomActor[Any]]]":
    """Return classes of rooms for `greenroom_world` and `greenroom`: none. Override it."""
    return ()


@pytest.fixture
def greenroom_settings() -> "Settings":
    """Return the settings of `greenroom_world` and `greenroom`: the defaults. Override it."""
    from broker.config.settings import Settings

    return Settings()


@pytest.fixture
def greenroom(
    greenroom_rooms: "Sequence[type[RoomActor[Any]]]", greenroom_settings: "Settings"
) -> "Iterator[RunningBroker]":
    """Serve a broker on a free port, with `greenroom_rooms`, for one test."""
    from broker.testing import running_broker

    with running_broker(greenroom_settings, rooms=greenroom_rooms) as broker:
        yield broker


@pytest.fixture
def greenroom_world(
    request: pytest.FixtureRequest,
    greenroom_rooms: "Sequence[type[RoomActor[Any]]]",
    greenroom_settings: "Settings",
) -> "Iterator[World]":
    """Open a broker in memory on virtual time, with `greenroom_rooms`, for one test.

    For a test of pytest-trio it runs in the loop of the test, which gets a virtual clock, unless it brings one. For all
    others (pytest-asyncio, anyio, `asyncio.run`) it runs in a thread, on a virtual clock of its own; with anyio it runs
    in the loop of the test if the options of `anyio_backend` have a virtual clock.
    """
    if _has_virtual_time(request):
        yield request.getfixturevalue("_greenroom_world_in_loop")
        return
    from broker.testing import open_test_broker_in_thread

    with open_test_broker_in_thread(greenroom_rooms, settings=greenroom_settings) as world:
        yield world


@pytest.fixture
async def _greenroom_world_in_loop(
    greenroom_rooms: "Sequence[type[RoomActor[Any]]]", greenroom_settings: "Settings"
) -> "AsyncIterator[World]":
    from broker.testing import open_test_broker

    async with open_test_broker(greenroom_rooms, settings=greenroom_settings) as world:
        yield world


def _has_virtual_time(request: pytest.FixtureRequest) -> bool:
    """Whether the loop of the test has a virtual clock; it gets one if pytest-trio runs it."""
    from trio.testing import MockClock

    item = request.node
    if item.get_closest_marker("trio") is not None:
        run = next((each.kwargs["run"] for each in item.iter_markers("trio") if "run" in each.kwargs), None)
        item.add_marker(pytest.mark.trio(run=_run_on_virtual_time(run)), append=False)
        return True
    if "anyio_backend" not in request.fixturenames:
        return False
    backend = request.getfixturevalue("anyio_backend")
    return not isinstance(backend, str) and isinstance(backend[1].get("clock"), MockClock)


def _run_on_virtual_time(run: Callable[..., object] | None) -> Callable[..., object]:
    """Return a function that runs the loop of a test; `run` runs it otherwise, None if that is `trio.run`."""
    import trio
    from trio.testing import MockClock

    run_it: Callable[..., object] = run or trio.run

    def run_test(*args: object, clock: trio.abc.Clock | None = None, **options: object) -> object:
        return run_it(*args, clock=clock or MockClock(autojump_threshold=0), **options)

    return run_test
