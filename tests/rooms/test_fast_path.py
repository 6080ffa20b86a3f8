"""A publish in a turn that the room lends: nobody can tell it from one that went through the inbox."""

from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.notices import Acknowledged
from broker.rooms.messages import Leave
from broker.rooms.room import MAX_MEMBERS_NOWAIT
from tests.rooms.conftest import OpenStage, Person, Stage

NAMES = ("ann", "bob", "eve")


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

STEPS = st.lists(
    st.builds(Chat, st.sampled_from(NAMES), st.none() | st.integers(1, 3), st.booleans())
    | st.builds(
        Act,
        st.sampled_from(["rest", "leave", "join", "fill", "empty", "break", "fail engine", "elsewhere"]),
        st.sampled_from(NAMES),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
def test_nobody_can_tell_which_way_a_publish_took(open_stage: OpenStage, steps: list[Step]) -> None:
    short = trio.run(story, open_stage(), steps, True, clock=MockClock(autojump_threshold=0))
    long = trio.run(story, open_stage(), steps, False, clock=MockClock(autojump_threshold=0))
    assert short == long


async def story(opening: AbstractAsyncContextManager[Stage], steps: list[Step], is_prompt: bool) -> Any:
    """Return all that was heard, lost and logged."""
    async with opening as stage:
        stage.engine.is_prompt = is_prompt
        people = {name: await stage.join(stage.person(name)) for name in NAMES}
        for number, step in enumerate(steps):
            match step:
                case Chat(name, request_id, ephemeral):
                    stage.refs["den"].tell_nowait(
                        stage.chat(f"{number}", people[name], request_id, ephemeral=ephemeral)
                    )
                case Act("rest"):
                    await wait_all_tasks_blocked()
                case Act(what, name):
                    await act(stage, people[name], what)
        await wait_all_tasks_blocked()
        position = await stage.position()
        return [
            *((person.user_id, outcome(person)) for person in people.values()),
            position.offset,
            stage.log.events,
            attrs.astuple(stage.rooms.tally)[:3],
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
    text = repr(notice)
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
    people = [await stage.enter(f"user {number}") for number in range(MAX_MEMBERS_NOWAIT + 1)]
    for text in "abc":
        stage.refs["den"].tell_nowait(stage.chat(text, people[0], None))
    assert not people[1].texts()
    await wait_all_tasks_blocked()
    assert people[1].texts() == ["a", "b", "c"]
    assert len(stage.engine.appended) == 1
