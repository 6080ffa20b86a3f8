"""Senders, sweeps, failures and impatience at random: every accepted message is handled once, in order."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Actor, ActorFailedError, Context, Registry, Reply, RestartPolicy, open_supervisor

# Few different times, so that much happens at once.
SECONDS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])


@attrs.frozen
class Act:
    """The next step of a sender."""

    key: str
    pause_seconds: float
    turn_seconds: float
    patience_seconds: float
    is_question: bool
    is_poison: bool


@attrs.frozen
class Pace:
    """How long the actors take, and which of their starts fail."""

    start_seconds: float
    stop_seconds: float
    failing_starts: frozenset[int]
    capacity: int


@attrs.frozen
class Message:
    sender: int
    number: int
    act: Act
    reply: Reply[tuple[int, int]] | None = None


ACTS = st.builds(
    Act,
    key=st.sampled_from("ab"),
    pause_seconds=SECONDS,
    turn_seconds=SECONDS,
    patience_seconds=st.sampled_from([0.0, 0.25, 1.0, 1000.0, 1000.0, 1000.0]),
    is_question=st.booleans(),
    is_poison=st.sampled_from([False, False, False, True]),
)
PACES = st.builds(
    Pace,
    start_seconds=SECONDS,
    stop_seconds=SECONDS,
    failing_starts=st.frozensets(st.integers(0, 10), max_size=3),
    capacity=st.integers(1, 3),
)
SENDERS = st.lists(st.lists(ACTS, min_size=1, max_size=8), min_size=1, max_size=4)
SWEEPS = st.lists(st.tuples(SECONDS, st.sampled_from(["idle", "idle", "a", "b"])), max_size=20)


class StartError(Exception):
    """A start that was to fail."""


@attrs.define
class World:
    """The true course of events, recorded where they happen."""

    pace: Pace
    starts: Iterator[int]
    awake: Counter[str] = attrs.Factory(Counter)
    overlaps: int = 0
    handled: defaultdict[str, list[tuple[int, int]]] = attrs.Factory(lambda: defaultdict(list))
    accepted: defaultdict[str, set[tuple[int, int]]] = attrs.Factory(lambda: defaultdict(set))
    unsure: set[tuple[int, int]] = attrs.Factory(set)
    wrong_answers: list[object] = attrs.Factory(list)

    def make_factory(self, key: str) -> Callable[[], "Worker"]:
        return lambda: Worker(self, key)


class Worker(Actor[Message]):
    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key

    async def on_start(self, context: Context[Message]) -> None:
        self._world.awake[self._key] += 1
        self._world.overlaps += self._world.awake[self._key] > 1
        try:
            await trio.sleep(self._world.pace.start_seconds)
            if next(self._world.starts) in self._world.pace.failing_starts:
                raise StartError
        except BaseException:
            self._world.awake[self._key] -= 1
            raise

    async def receive(self, message: Message) -> None:
        self._world.handled[self._key].append((message.sender, message.number))
        await trio.sleep(message.act.turn_seconds)
        if message.act.is_poison:
            raise ZeroDivisionError
        if message.reply is not None:
            message.reply.set((message.sender, message.number))

    async def on_stop(self) -> None:
        await trio.sleep(self._world.pace.stop_seconds)
        self._world.awake[self._key] -= 1


async def send(world: World, registry: Registry[str, Message], sender: int, acts: list[Act]) -> None:
    for number, act in enumerate(acts):
        await trio.sleep(act.pause_seconds)
        with trio.move_on_after(act.patience_seconds) as scope:
            try:
                if act.is_question:
                    await ask(world, registry, Message(sender, number, act))
                else:
                    await registry.tell(act.key, Message(sender, number, act))
                    world.accepted[act.key].add((sender, number))
            except StartError:
                pass  # not accepted
        if scope.cancelled_caught and act.is_question:
            world.unsure.add((sender, number))


async def ask(world: World, registry: Registry[str, Message], message: Message) -> None:
    identity = message.sender, message.number
    try:
        answer: tuple[int, int] = await registry.ask(
            message.act.key, lambda reply: attrs.evolve(message, reply=reply)
        )
    except ActorFailedError as error:
        if not message.act.is_poison or not isinstance(error.__cause__, ZeroDivisionError):
            world.wrong_answers.append(error)
    else:
        if answer != identity or message.act.is_poison:
            world.wrong_answers.append(answer)
    world.accepted[message.act.key].add(identity)


async def sweep(registry: Registry[str, Message], sweeps: list[tuple[float, str]]) -> None:
    """Put away idle actors, and stop others whether they are idle or not."""
    for pause, what in sweeps:
        await trio.sleep(pause)
        ref = registry.peek(what)
        if ref is None:
            registry.passivate_idle()
        else:
            ref.stop_nowait()


async def live(world: World, senders: list[list[Act]], sweeps: list[tuple[float, str]]) -> None:
    policy = RestartPolicy(intensity=1000, backoff_seconds=0.25, backoff_max_seconds=0.5)
    async with open_supervisor(policy, stop_seconds=10_000) as supervisor:
        registry: Registry[str, Message] = Registry(
            supervisor, world.make_factory, name="worker", idle_seconds=0.25, capacity=world.pace.capacity
        )
        async with trio.open_nursery() as nursery:
            for sender, acts in enumerate(senders):
                nursery.start_soon(send, world, registry, sender, acts)
            nursery.start_soon(sweep, registry, sweeps)
    assert len(registry) == 0
    assert supervisor.statistics().actors == 0


@settings(max_examples=150)
@given(pace=PACES, senders=SENDERS, sweeps=SWEEPS)
def test_no_message_is_lost_doubled_or_overtaken(
    pace: Pace, senders: list[list[Act]], sweeps: list[tuple[float, str]]
) -> None:
    world = World(pace, iter(range(10_000)))
    trio.run(live, world, senders, sweeps, clock=MockClock(autojump_threshold=0))

    assert world.overlaps == 0
    assert +world.awake == Counter()
    assert world.wrong_answers == []
    for key in "ab":
        handled = world.handled[key]
        assert len(set(handled)) == len(handled)
        assert world.accepted[key] <= set(handled) <= world.accepted[key] | world.unsure
        for sender in range(len(senders)):
            numbers = [number for who, number in handled if who == sender]
            assert numbers == sorted(numbers)
