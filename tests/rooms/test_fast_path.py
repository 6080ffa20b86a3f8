"""Nobody can tell which way a publish took: a borrowed turn, the mailbox of a small room, the broadcast of a large one."""

import re
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.notices import Acknowledged
from broker.rooms.fanout import BULK_MEMBERS
from broker.rooms.frame import RoomFrame
from broker.rooms.messages import Leave
from broker.rooms.state import LENT_TURNS
from broker.rooms.time_slice import TIME_SLICE_SECONDS
from tests.rooms.conftest import OpenStage, Stage
from tests.support.members import Person, RecordingOutbox

NAMES = ("ann", "bob", "eve")


class SlowOutbox(RecordingOutbox):
    """A few of its writes take a time slice."""

    def write_or_offer(self, frame: RoomFrame) -> bool:
        clock = trio.lowlevel.current_clock()
        if isinstance(clock, MockClock):
            clock.jump(TIME_SLICE_SECONDS / 20)
        return super().write_or_offer(frame)


@attrs.frozen
class Chat:
    name: str
    request_id: int | None
    ephemeral: bool


@attrs.frozen
class Act:
    what: str
    name: str


Step: TypeAlias = Chat | Act


def steps_of(*acts: str) -> st.SearchStrategy[list[Step]]:
    chats = st.builds(Chat, st.sampled_from(NAMES), st.none() | st.integers(1, 3), st.booleans())
    return st.lists(chats | st.builds(Act, st.sampled_from(acts), st.sampled_from(NAMES)), max_size=25)


ACTS = ("rest", "leave", "join", "fill", "empty", "break", "fail engine", "elsewhere")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps_of(*ACTS))
def test_nobody_can_tell_which_way_a_publish_took(open_stage: OpenStage, steps: list[Step]) -> None:
    short = trio.run(story, open_stage(), steps, True, clock=MockClock(autojump_threshold=0))
    long = trio.run(story, open_stage(), steps, False, clock=MockClock(autojump_threshold=0))
    assert short == long


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(steps_of(*(act for act in ACTS if act != "fail engine"), "yield", "yield"))
def test_nobody_can_tell_how_many_others_are_in_the_room(open_stage: OpenStage, steps: list[Step]) -> None:
    """Which publishes a failing engine takes down depends on which are appended together; see the tests below."""
    small = trio.run(story, open_stage(), steps, False, clock=MockClock(autojump_threshold=0))
    large = trio.run(story, open_stage(), steps, False, BULK_MEMBERS, clock=MockClock(autojump_threshold=0))
    assert large[:-1] == small[:-1]


async def story(
    opening: AbstractAsyncContextManager[Stage], steps: list[Step], is_prompt: bool, listeners: int = 0
) -> Any:
    """Return all that was heard, lost and logged. Listeners are not seen by anybody, and are slow to write to."""
    async with opening as stage:
        stage.engine.is_prompt = is_prompt
        for _ in range(listeners):
            listener = stage.person("listener", is_visible=False)
            listener.outbox = SlowOutbox(stage.codec)
            await stage.join(listener)
        people = {name: await stage.join(stage.person(name)) for name in NAMES}
        for number, step in enumerate(steps):
            match step:
                case Chat(name, request_id, ephemeral):
                    stage.refs["den"].tell_nowait(
                        stage.chat(f"{number}", people[name], request_id, ephemeral=ephemeral)
                    )
                case Act("rest"):
                    await wait_all_tasks_blocked()
                case Act("yield"):
                    await trio.lowlevel.checkpoint()
                case Act(what, name):
                    await act(stage, people[name], what)
        await wait_all_tasks_blocked()
        position = await stage.position()
        return [
            *((person.user_id, outcome(person)) for person in people.values()),
            position.offset,
            stage.log.events,
            attrs.astuple(stage.rooms.tally)[:3] if not listeners else None,
        ]


async def act(stage: Stage, person: Person, what: str) -> None:
    ref = stage.refs["den"]
    match what:
        case "leave":
            ref.tell_always(Leave(person))
        case "join":
            ref.tell_always(stage.joining(person))
        case "fill" | "empty":
            await wait_all_tasks_blocked()  # a write that is refused depends on the moment of it
            person.outbox.is_full = what == "fill"
        case "break":
            await wait_all_tasks_blocked()
            person.outbox.faults.append(ValueError("broken"))
        case "fail engine":
            await wait_all_tasks_blocked()
            stage.engine.before["append"].append(ValueError("engine"))
        case "elsewhere":
            await wait_all_tasks_blocked()
            await stage.append("elsewhere")


def outcome(person: Person) -> Any:
    """Return what one member noticed. An ack may come right behind its event, or behind those of the same batch."""
    epochs: dict[str, int] = {}
    heard = [
        _without_epoch(notice, epochs) for notice in person.heard if not isinstance(notice, Acknowledged)
    ]
    acks = [_without_epoch(ack, epochs) for ack in person.heard_of(Acknowledged)]
    lost = {offset for _, span in person.outbox.losses if span for offset in range(span[0], span[1] + 1)}
    return heard, acks, lost, person.disconnects, person.removals


def _without_epoch(notice: Any, epochs: dict[str, int]) -> Any:
    """Return a notice with its epoch, which is random, numbered."""
    text = re.sub("time_ms=[0-9]+", "", repr(notice))
    position = getattr(notice, "position", None)
    epoch = getattr(notice, "epoch", None) or getattr(position, "epoch", None)
    if epoch is not None:
        text = text.replace(epoch, f"epoch {epochs.setdefault(epoch, len(epochs))}")
    return text


async def test_a_publish_in_a_quiet_small_room_is_heard_before_the_sender_goes_on(stage: Stage) -> None:
    stage.engine.is_prompt = True
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    stage.refs["den"].tell_nowait(stage.chat("hello", ann, 1))
    assert bob.texts() == ["hello"]
    assert [type(notice).__name__ for notice in ann.heard][-2:] == ["RoomEvent", "Acknowledged"]


async def test_a_large_room_takes_publishes_together(stage: Stage) -> None:
    stage.engine.is_prompt = True
    people = [await stage.enter(f"user {number}") for number in range(BULK_MEMBERS + 1)]
    for text in "abc":
        stage.refs["den"].tell_nowait(stage.chat(text, people[0], None))
    assert not people[1].texts()
    await wait_all_tasks_blocked()
    assert people[1].texts() == ["a", "b", "c"]
    assert len(stage.engine.appended) == 1


async def enter_large_room(stage: Stage, members: int) -> list[Person]:
    """Return members who have heard nothing yet, and are slow to write to where the clock is a test's."""
    people = []
    for number in range(members):
        people.append(stage.person(f"user {number}"))
        people[-1].outbox = SlowOutbox(stage.codec)
        await stage.join(people[-1])
    for person in people:
        person.forget()
        person.outbox.writes = 0
    return people


async def test_a_large_room_joins_events_published_while_it_sends(
    stage: Stage, mock_clock: MockClock
) -> None:
    people = await enter_large_room(stage, 4 * BULK_MEMBERS)
    for number in range(10):
        stage.refs["den"].tell_nowait(stage.chat(f"{number}"))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    for person in people:
        assert person.texts() == [f"{number}" for number in range(10)]
    writes = sum(person.outbox.writes for person in people)
    assert len(people) < writes < 5 * len(people)


async def test_a_large_room_that_stops_sends_the_rest(open_stage: OpenStage) -> None:
    async with open_stage() as stage:
        people = [await stage.enter(f"user {number}") for number in range(BULK_MEMBERS + 1)]
        for text in "abc":
            stage.refs["den"].tell_nowait(stage.chat(text))
    assert all(person.texts() == ["a", "b", "c"] for person in people)


@pytest.mark.parametrize("checkpoints", range(6))
async def test_a_large_room_that_fails_sends_the_rest(
    stage: Stage, mock_clock: MockClock, checkpoints: int
) -> None:
    people = await enter_large_room(stage, 4 * BULK_MEMBERS)
    stage.refs["den"].tell_nowait(stage.chat("a"))
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    stage.engine.before["append"].append(ValueError("engine"))
    stage.refs["den"].tell_nowait(stage.chat("lost"))
    await wait_all_tasks_blocked()
    stage.refs["den"].tell_nowait(stage.chat("b"))
    await wait_all_tasks_blocked()
    texts = people[0].texts()
    assert texts in (["a", "b"], ["b"])  # both publishes are one append where they come together
    assert all(person.texts() == texts for person in people)


async def test_a_burst_of_one_sender_waits_in_the_mailbox_after_some_turns(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.engine.is_prompt = True
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    for number in range(LENT_TURNS + 10):
        stage.refs["den"].tell_nowait(stage.chat(str(number), ann))
    assert len(bob.texts()) == LENT_TURNS
    await wait_all_tasks_blocked()
    assert bob.texts() == [str(number) for number in range(LENT_TURNS + 10)]
    assert [len(drafts) for drafts in stage.engine.appended][-2:] == [1, 10]
