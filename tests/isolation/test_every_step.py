"""A connection that is struck down at any step of its life leaves nothing behind and disturbs nobody."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import attrs
import outcome
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.events import TextMessage

from broker.errors import CloseCode
from broker.model import Draft
from broker.transport.byte_stream import MemoryByteStream
from tests.support.node import Node, OpenNode
from tests.support.peers import CLOSE, Client, RawPeer, client_frame, handshake, text_of

T = TypeVar("T")
Strike: TypeAlias = Callable[["Victim", trio.lowlevel.Task], None]
ROOMS = ("lobby", "other")
MOST_STEPS = 2000


class PoisonError(Exception):
    """An unexpected error."""


class FaultyStream(MemoryByteStream):
    """A stream that can be made to raise, whatever is being awaited on it just then."""

    error: type[Exception] | None = None
    is_closed = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._scopes: set[trio.CancelScope] = set()

    def fail(self, error: type[Exception]) -> None:
        self.error = error
        for scope in list(self._scopes):
            scope.cancel()

    async def _guard(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            if self.error is not None:
                scope.cancel()
            try:
                return await call(*args)
            finally:
                self._scopes.discard(scope)
                # The fault comes first, also when everything is cancelled.
                if self.error is not None:
                    error, self.error = self.error, trio.BrokenResourceError
                    raise error("a fault of the stream")
        raise AssertionError("only a fault cancels this scope")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._guard(super().receive_some, max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._guard(super().send_all, data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._guard(super().wait_send_all_might_not_block)

    async def send_eof(self) -> None:
        await self._guard(super().send_eof)

    async def aclose(self) -> None:
        self.is_closed = True
        await super().aclose()


@attrs.define(eq=False)
class Victim:
    """One connection with both its ends."""

    node: Node
    user: str
    ours: Any = None
    theirs: FaultyStream | None = None
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    task: trio.lowlevel.Task | None = None
    has_ended: trio.Event = attrs.Factory(trio.Event)
    is_last_step: bool = False

    async def serve(self) -> None:
        self.task = trio.lowlevel.current_task()
        assert self.theirs is not None
        try:
            with self.scope:
                await self.node.port.serve_stream(self.theirs)
        except PoisonError:
            # Only the very last step, the second closing of the stream, is allowed to raise.
            assert self.theirs.is_closed
            self.is_last_step = True
        self.has_ended.set()

    def is_above(self, task: trio.lowlevel.Task) -> bool:
        """Whether a task is one of those that serve this connection."""
        at: trio.lowlevel.Task | None = task
        while at is not None:
            if at is self.task:
                return True
            at = at.parent_nursery.parent_task if at.parent_nursery is not None else None
        return False


@attrs.define(eq=False)
class Countdown(trio.abc.Instrument):
    """Strikes before the n-th step of any task that serves the victim."""

    victim: Victim
    left: int
    strike: "Strike"

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left > 0 and self.victim.is_above(task):
            self.left -= 1
            if not self.left:
                self.strike(self.victim, task)


class GoneError(Exception):
    """The server has closed."""


async def ask(peer: RawPeer, **message: Any) -> None:
    """Send a request and wait for what answers it."""
    await peer.send(text_of(**message, id=message["type"]))
    while True:
        event = await peer.read_until(TextMessage)
        if event is None:
            raise GoneError
        assert isinstance(event, TextMessage)
        if json.loads(event.data).get("id") == message["type"]:
            return


async def converse(victim: Victim) -> None:
    """Live a whole life: shake hands, join, speak, ask, leave, close."""
    peer, node = RawPeer(victim.ours), victim.node
    token = node.token(victim.user)
    with suppress(GoneError, trio.BrokenResourceError, trio.ClosedResourceError):
        await peer.send(handshake(node.target("lobby", token=token)))
        if not await peer.try_read_head():
            return
        await ask(peer, type="chat", text="hello")
        await ask(peer, type="join", room="other")
        await ask(peer, type="publish", room="other", event="e", data=[1])
        await peer.send(client_frame(9, b"ping") + client_frame(1, b'{"type":', fin=False))
        await peer.send(client_frame(0, b'"ping"}'))
        await ask(peer, type="presence")
        await ask(peer, type="refresh", token=token)
        await ask(peer, type="leave", room="other")
        await ask(peer, type="join", room="other", since={"offset": 0, "epoch": "none"})
        await ask(peer, type="history", room="other")
        await peer.send(client_frame(CLOSE, b"\x03\xe8"))
        await peer.read_close()
        await peer.read_eof()


def cancel(victim: Victim, _task: trio.lowlevel.Task) -> None:
    victim.scope.cancel()


def break_stream(victim: Victim, _task: trio.lowlevel.Task) -> None:
    assert victim.theirs is not None
    victim.theirs.fail(trio.BrokenResourceError)


def raise_in_stream(victim: Victim, _task: trio.lowlevel.Task) -> None:
    assert victim.theirs is not None
    victim.theirs.fail(PoisonError)


def hang_up(victim: Victim, _task: trio.lowlevel.Task) -> None:
    victim.ours.send_stream.close()
    victim.ours.receive_stream.close()


def disconnect(victim: Victim, _task: trio.lowlevel.Task) -> None:
    victim.node.connections.disconnect_user(victim.user, CloseCode.REMOVED, "removed")


def break_and_cancel(victim: Victim, task: trio.lowlevel.Task) -> None:
    raise_in_stream(victim, task)
    cancel(victim, task)


def raise_at_await(_victim: Victim, task: trio.lowlevel.Task) -> None:
    """Make whatever the task awaits raise, instead of giving what it would have given."""
    has_begun = isinstance(task._next_send, outcome.Value)
    # A nursery that waits for its tasks is trio's own; nothing can be raised there.
    is_nursery = any(
        frame.f_code.co_name == "_nested_child_finished" for frame, _ in task.iter_await_frames()
    )
    if has_begun and not is_nursery:
        task._next_send = outcome.Error(PoisonError("a fault anywhere"))


STRIKES: dict[str, Strike] = {
    "cancelled": cancel,
    "broken": break_stream,
    "faulty": raise_in_stream,
    "hung up": hang_up,
    "disconnected": disconnect,
    "faulty and cancelled": break_and_cancel,
    "raising at an await": raise_at_await,
}
FAULTS = {"faulty", "faulty and cancelled", "raising at an await"}


async def chatter(node: Node) -> None:
    """Speak in a room for as long as a life takes, so that its members are written to at every step of it."""
    for _ in range(100):
        await node.rooms.publish("lobby", Draft(b'{"type":"chatter"}', ephemeral=True))


async def live_and_die(node: Node, step: int, strike: Strike) -> bool:
    """Play one life that is struck at a step; returns whether it came to that."""
    victim = Victim(node, f"victim{step}")
    victim.ours, inner = memory_stream_pair()
    victim.theirs = FaultyStream(inner, "10.9.9.9")
    countdown = Countdown(victim, step, strike)
    trio.lowlevel.add_instrument(countdown)
    node.nursery.start_soon(victim.serve)
    with trio.fail_after(60):
        await converse(victim)
        await trio.aclose_forcefully(victim.ours)
        await victim.has_ended.wait()
    # An instrument that raises is thrown out, and would have struck nobody.
    trio.lowlevel.remove_instrument(countdown)
    assert victim.theirs.is_closed
    assert not victim.is_last_step or strike is raise_at_await
    return not countdown.left


async def check_nothing_is_left(node: Node, observer: Client, tasks: int) -> None:
    told: dict[str, Counter[str]] = {room: Counter() for room in ROOMS}
    for message in await observer.settle():
        if message["type"] in ("user_joined", "user_left"):
            room = told[message["room"]]
            room[message["type"]] += 1
            assert 0 <= room["user_joined"] - room["user_left"] <= 1
            assert message["room_size"] == 1 + room["user_joined"] - room["user_left"]
    for room, counts in told.items():
        assert counts["user_joined"] == counts["user_left"], room
        ref = node.rooms._registry.peek(room)
        assert ref is not None
        statistics = ref.statistics()
        assert (statistics.mailbox.waiting, statistics.open_replies, statistics.restarts) == (0, 0, 0)
    assert (len(node.connections), len(node.admission), node.rooms.statistics().members) == (1, 1, 2)
    assert trio.lowlevel.current_statistics().tasks_living == tasks


@pytest.mark.parametrize("name", STRIKES)
async def test_struck_at_any_step(open_node: OpenNode, autojump_clock: MockClock, name: str) -> None:
    await check_every_step(open_node, name, is_busy=False)


@pytest.mark.parametrize("name", ["cancelled", "disconnected", "hung up"])
async def test_struck_at_any_step_in_a_busy_room(
    open_node: OpenNode, autojump_clock: MockClock, name: str
) -> None:
    await check_every_step(open_node, name, is_busy=True)


async def check_every_step(open_node: OpenNode, name: str, *, is_busy: bool) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        await observer.ask(type="join", room="other")
        await observer.settle()
        tasks = trio.lowlevel.current_statistics().tasks_living
        logged = 0
        for step in range(1, MOST_STEPS):
            async with trio.open_nursery() as nursery:
                if is_busy:
                    nursery.start_soon(chatter, node)
                was_struck = await live_and_die(node, step, STRIKES[name])
                nursery.cancel_scope.cancel()
            await check_nothing_is_left(node, observer, tasks)
            lines = len(node.log_lines())
            assert lines - logged <= 1, "at most one line for each connection"
            assert lines == logged or name in FAULTS
            logged = lines
            if not was_struck:
                break
        assert 50 < step < MOST_STEPS - 1, "a whole life takes so many steps"
        assert (logged > 0) is (name in FAULTS), "the faults did occur, and their lines are bounded"
        # And the others never noticed.
        for room in ROOMS:
            assert (await observer.ask(type="presence", room=room))["users"] == [
                {"user_id": "eve", "connections": 1}
            ]
            assert (await observer.ask(type="chat", text="still here", room=room, id=room))["type"] == "ack"
