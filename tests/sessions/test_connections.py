"""The open connections, against a plain list; and the keeper that looks at them."""

from functools import partial

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.sessions.connections import Connections
from broker.sessions.heartbeat import run_heartbeat


@attrs.define(eq=False)
class Fake:
    """A connection that only remembers what was done to it."""

    user_id: str
    looks: list[tuple[float, float]] = attrs.Factory(list)
    told: list[int] = attrs.Factory(list)
    ended: list[tuple[CloseCode, str]] = attrs.Factory(list)

    def check(self, now: float, wall_now: float) -> None:
        self.looks.append((now, wall_now))

    def send_reconnect(self, after_ms: int) -> None:
        self.told.append(after_ms)

    def disconnect(self, code: CloseCode, reason: str) -> None:
        self.ended.append((code, reason))


def test_listeners_are_no_connections_of_users() -> None:
    connections = Connections(1)
    listener, user, refused = Fake("api/1"), Fake("ann"), Fake("ann")
    added = [connections.add(connection) for connection in (listener, user, refused)]
    assert (added, len(connections), connections.of_users) == ([True, True, False], 2, 1)
    for connection in (listener, listener, refused):
        connections.discard(connection)
    assert (len(connections), connections.of_users) == (1, 1)


@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60))
def test_connections_come_and_go(per_user: int, steps: list[tuple[bool, int]]) -> None:
    fakes = [Fake(f"user{i % 3}") for i in range(9)]
    connections, model = Connections(per_user), list[Fake]()
    for is_coming, i in steps:
        fake = fakes[i]
        if is_coming and fake not in model:
            may = sum(other.user_id == fake.user_id for other in model) < per_user
            assert connections.add(fake) is may
            if may:
                model.append(fake)
        elif not is_coming:
            connections.discard(fake)
            model = [other for other in model if other is not fake]
        assert len(connections) == len(model)
        assert set(connections) == set(model)
        assert [other for other in fakes if other in connections] == [o for o in fakes if o in model]
    for user in ("user0", "user1", "user2"):
        mine = [fake for fake in model if fake.user_id == user]
        assert connections.disconnect_user(user, CloseCode.REMOVED, "removed") == len(mine)
        assert all(fake.ended == [(CloseCode.REMOVED, "removed")] for fake in mine)
    assert all(not fake.ended for fake in fakes if fake not in model)


def test_it_may_change_while_it_is_iterated_over() -> None:
    connections = Connections(10)
    for i in range(4):
        connections.add(Fake(f"user{i % 2}"))
    for connection in connections:
        connections.discard(connection)
    assert len(connections) == 0


async def test_waiting_for_the_last_to_go(nursery: trio.Nursery) -> None:
    connections, first, second = Connections(10), Fake("ann"), Fake("bob")
    await connections.wait_empty()
    connections.add(first)
    connections.add(second)
    is_empty = trio.Event()

    async def wait() -> None:
        await connections.wait_empty()
        is_empty.set()

    nursery.start_soon(wait)
    connections.discard(first)
    await wait_all_tasks_blocked()
    assert not is_empty.is_set()
    connections.discard(second)
    # One that comes before the waiter is awake keeps it waiting.
    connections.add(first)
    await wait_all_tasks_blocked()
    assert not is_empty.is_set()
    connections.discard(first)
    with trio.fail_after(60):
        await is_empty.wait()


async def test_the_keeper_looks_at_all_with_both_clocks(autojump_clock: MockClock) -> None:
    connections, fake = Connections(10), Fake("ann")
    connections.add(fake)
    connections.add(Fake("bob"))
    started = trio.current_time()
    with trio.move_on_after(3.5):
        await run_heartbeat(connections, lambda: 1000.0 + trio.current_time(), interval_seconds=1.0)
    assert [now - started for now, _ in fake.looks] == pytest.approx([1, 2, 3])
    assert all(wall == 1000.0 + now for now, wall in fake.looks)


async def test_the_keeper_looks_on_while_connections_come_and_go(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    connections = Connections(10)

    class Leaver(Fake):
        def check(self, now: float, wall_now: float) -> None:
            connections.discard(self)
            connections.add(late)

    late = Fake("late")
    connections.add(Leaver("ann"))
    nursery.start_soon(partial(run_heartbeat, connections, trio.current_time, interval_seconds=1.0))
    await trio.sleep(2.5)
    assert list(connections) == [late]
    assert len(late.looks) == 1
    nursery.cancel_scope.cancel()
