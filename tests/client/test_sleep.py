"""The machine of a client sleeps: its monotonic clock stands still, and the server's goes on."""

from random import Random

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from broker.client import AsyncPublisher, ConnectionLostError, Publisher, UnavailableError
from broker.client.client import PONG_SECONDS, SILENCE_SECONDS
from broker.client.core import RESEND_SECONDS
from broker.clocks import SLEEP_SECONDS, SleepAwareClock, boot_clock
from tests.client.test_client import next_of, open_world
from tests.client.test_publisher import answer, scripted
from tests.support.secrets import API_KEY


@attrs.define
class Machine:
    """The clocks of a machine; `slept` is what its monotonic one knows nothing of."""

    slept: float = 0.0

    def clock(self) -> SleepAwareClock:
        return SleepAwareClock(trio.current_time, lambda: trio.current_time() + self.slept, trio.current_time)


@pytest.mark.parametrize(
    ("slept", "is_said_again"),
    [(0.0, True), (RESEND_SECONDS - 60, True), (RESEND_SECONDS + 1, False), (600.0, False)],
)
async def test_what_the_server_may_have_forgotten_is_not_said_again_after_a_sleep(
    open_node, autojump_clock, slept, is_said_again
):
    machine = Machine()
    async with (
        open_world(open_node) as world,
        world.client(clock=machine.clock()) as client,
        client.join("lobby") as room,
        trio.open_nursery() as nursery,
    ):
        world.lines[-1].stop_reading()
        outcomes: list[object] = []
        ended = trio.Event()

        async def chat() -> None:
            try:
                outcomes.append(await room.chat("once"))
            except ConnectionLostError as error:
                outcomes.append(error)
            ended.set()

        nursery.start_soon(chat)
        await wait_all_tasks_blocked()
        machine.slept += slept
        await world.cut()
        await ended.wait()
        assert isinstance(outcomes[0], ConnectionLostError) is not is_said_again
        said = await world.node.rooms.read("lobby", None, 100, reverse=False)
        assert len(said.events) == 1


async def test_after_a_sleep_the_server_is_asked_and_has_the_time_to_answer(open_node, autojump_clock):
    machine = Machine()
    async with (
        open_world(open_node, websocket={"ping_seconds": 10_000}) as world,
        world.client(clock=machine.clock()) as client,
        client.join("lobby") as room,
    ):
        await next_of(room, "user_joined")
        machine.slept += 600
        await trio.sleep(PONG_SECONDS * 3)
        assert len(world.lines) == 1, "it was asked, and has answered"
        world.lines[-1].stop_reading()
        machine.slept += 600
        started = trio.current_time()
        await next_of(room, "joined")
        assert trio.current_time() - started <= PONG_SECONDS + 5 < SILENCE_SECONDS


async def test_what_was_refused_for_now_is_sent_after_a_sleep_too(open_node, autojump_clock):
    machine = Machine()
    limits = {"messages_per_second": 1.0, "messages_burst": 2}
    async with open_world(open_node, limits=limits) as world, world.client(clock=machine.clock()) as client:
        async with client.join("lobby") as room, trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(room.chat, f"{number}")
                await wait_all_tasks_blocked()
                machine.slept += 7.7
        said = await world.node.rooms.read("lobby", None, 100, reverse=False)
        assert len(said.events) == 6


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e5),  # passes
            st.just(0.0) | st.floats(2 * SLEEP_SECONDS, 1e6),  # of sleep
            st.floats(0, SLEEP_SECONDS / 3),  # between the two reads, as another process has its turn
        ),
        max_size=30,
    )
)
def test_the_clock_counts_sleep_and_nothing_else_and_never_goes_back(events):
    monotonic, slept, late = 50.0, 0.0, 0.0
    clock = SleepAwareClock(lambda: monotonic, lambda: monotonic + slept - late, lambda: monotonic)
    began = last = clock()
    for seconds, sleep, held_up in events:
        monotonic, slept, late = monotonic + seconds, slept + sleep, held_up
        assert clock() >= last
        late = 0.0
        last = clock()
        assert last - began == pytest.approx(monotonic - 50.0 + slept, abs=SLEEP_SECONDS)


def test_the_boot_clock_never_goes_back():
    times = [boot_clock() for _ in range(100)]
    assert times == sorted(times)


class NoJitter(Random):
    def uniform(self, a: float, b: float) -> float:
        return 0.0


@pytest.mark.parametrize(("slept", "asked"), [(0.0, 2), (14.0, 2), (16.0, 1), (600.0, 1)])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_publisher_sends_nothing_again_that_the_server_may_have_forgotten(slept, asked, is_async):
    """The machine sleeps while an answer is under way."""
    async with scripted(answer("503 Busy"), answer("200 OK")) as server:

        def clock() -> float:
            return 1000.0 + (slept if server.requests else 0.0)

        options = {"clock": clock, "random": NoJitter(), "timeout_seconds": 15.0}
        async with AsyncPublisher(server.url, API_KEY, **options) as publisher:
            sync = Publisher(server.url, API_KEY, **options)
            try:
                if is_async:
                    await publisher.publish("lobby", {"type": "note"})
                else:
                    await trio.to_thread.run_sync(lambda: sync.publish("lobby", {"type": "note"}))
            except UnavailableError:
                assert asked == 1
            sync.close()
        assert len(server.requests) == asked
