"""Nobody can tell which way a publish and an arrival took where nodes share an engine: borrowed turns, or the mailbox."""

from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Reply
from broker.errors import EngineUnavailableError
from broker.model import Draft
from broker.notices import Acknowledged, Failed, Gap, RoomEvent
from broker.rooms.directory import retention_for
from broker.rooms.messages import FeedEvents, Leave, Publish, Published
from tests.rooms.conftest import OpenStage, Stage
from tests.rooms.shared_engine import SharedEngine
from tests.rooms.test_fast_path import NAMES, Act, Chat, Step, outcome
from tests.support.members import Person

ACTS = (
    "reply", "reply", "arrive", "arrive", "lose", "rest", "refuse", "crash", "elsewhere", "whisper", "leave", "join",
    "fill", "empty", "break",
)  # fmt: skip
STEPS = st.lists(
    st.builds(Chat, st.sampled_from(NAMES), st.none() | st.integers(1, 3), st.booleans())
    | st.builds(Act, st.sampled_from(ACTS), st.sampled_from(NAMES)),
    max_size=25,
)


def engine_of(stage: Stage) -> SharedEngine:
    return cast("SharedEngine", stage.engine)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
def test_nobody_can_tell_which_way_a_publish_and_its_arrival_took(
    open_stage: OpenStage, steps: list[Step]
) -> None:
    short = trio.run(
        story, open_stage(watched=SharedEngine), steps, True, clock=MockClock(autojump_threshold=0)
    )
    long = trio.run(
        story, open_stage(watched=SharedEngine), steps, False, clock=MockClock(autojump_threshold=0)
    )
    assert short == long


async def story(opening: AbstractAsyncContextManager[Stage], steps: list[Step], is_prompt: bool) -> Any:
    """Return all that was heard, lost, stored and logged."""
    async with opening as stage:
        engine = engine_of(stage)
        engine.is_prompt = is_prompt
        people = {name: await stage.join(stage.person(name)) for name in NAMES}
        for number, step in enumerate(steps):
            match step:
                case Chat(name, request_id, ephemeral):
                    # The key makes a repetition, which is stored once.
                    message = stage.chat(f"{number}", people[name], request_id, ephemeral=ephemeral)
                    stage.refs["den"].tell_nowait(message)
                case Act(what, name):
                    await act(stage, people[name], what)
            await wait_all_tasks_blocked()
        await engine.settle()
        return [
            *((person.user_id, outcome(person)) for person in people.values()),
            [[draft.content for draft in drafts] for drafts in engine.appended],
            stage.log.events,
            attrs.astuple(stage.rooms.tally)[:3],
        ]


async def act(stage: Stage, person: Person, what: str) -> None:
    engine, ref = engine_of(stage), stage.refs["den"]
    if what in {"rest", "fill", "empty", "break"}:  # a write that is refused depends on the moment of it
        await engine.settle()
    match what:
        case "reply" | "arrive" | "lose":
            getattr(engine, what)()
        case "refuse":
            engine.before["append"].append(EngineUnavailableError("full"))
        case "crash":
            engine.before["read"].append(ValueError("engine"))
        case "elsewhere" | "whisper":
            draft = Draft(what.encode(), ephemeral=what == "whisper")
            await engine.append_elsewhere("den", [draft], retention_for(stage.settings, "den"))
        case "leave":
            ref.tell_always(Leave(person))
        case "join":
            ref.tell_always(stage.joining(person))
        case "fill" | "empty":
            person.outbox.is_full = what == "fill"
        case "break":
            person.outbox.faults.append(ValueError("broken"))
        case _:
            assert what == "rest"


@pytest.fixture
async def shared(open_stage: OpenStage) -> Any:
    async with open_stage(watched=SharedEngine) as stage:
        engine_of(stage).is_prompt = True
        yield stage


async def test_a_reply_and_an_arrival_are_handled_on_the_spot(shared: Stage) -> None:
    engine = engine_of(shared)
    ann, bob = await shared.enter("ann"), await shared.enter("bob")
    ann.forget()
    shared.refs["den"].tell_nowait(shared.chat("hello", ann, 1))
    assert (engine.begun, ann.heard) == (1, [])
    engine.reply()
    assert [type(notice) for notice in ann.heard] == [Acknowledged]
    engine.arrive()
    assert (ann.texts(), bob.texts()) == (["hello"], ["hello"])


async def test_an_arrival_behind_a_gap_takes_the_mailbox(shared: Stage) -> None:
    engine = engine_of(shared)
    ann = await shared.enter("ann")
    await shared.append("missed")
    await shared.append("seen")
    engine.arrivals.popleft()
    engine.arrive()
    assert not ann.texts()
    await wait_all_tasks_blocked()
    assert ann.texts() == ["missed", "seen"]
    assert not ann.heard_of(Gap)


async def test_what_comes_while_an_append_is_pending_waits_for_it(shared: Stage) -> None:
    engine = engine_of(shared)
    ann = await shared.enter("ann")
    ref = shared.refs["den"]
    for number in range(3):
        ref.tell_nowait(shared.chat(f"{number}", ann, number))
    ref.tell_nowait(Leave(ann, is_answered=True))
    await wait_all_tasks_blocked()
    assert [len(drafts) for drafts in engine.appended] == [1]
    engine.reply()
    await wait_all_tasks_blocked()
    assert [len(drafts) for drafts in engine.appended] == [1, 2]
    engine.reply()
    await wait_all_tasks_blocked()
    names = [type(notice).__name__ for notice in ann.heard]
    assert names == ["Acknowledged", "Acknowledged", "Acknowledged", "Left"]


async def test_a_refusal_is_answered_and_counted(shared: Stage) -> None:
    engine = engine_of(shared)
    ann = await shared.enter("ann")
    engine.before["append"].append(EngineUnavailableError("full"))
    shared.refs["den"].tell_nowait(shared.chat("hello", ann, 7))
    engine.reply()
    [failed] = ann.heard_of(Failed)
    assert failed.request_id == 7
    assert shared.rooms.tally.unavailable == 1


@pytest.mark.parametrize("is_stopping", [True, False])
async def test_a_room_that_ends_answers_what_is_on_its_way(shared: Stage, *, is_stopping: bool) -> None:
    """A stop, or a failure in a borrowed turn: the asker and the sender get their answers, and nothing is lost."""
    engine = engine_of(shared)
    ann = await shared.enter("ann")
    ref = shared.refs["den"]
    reply: Reply[Published] = Reply()
    publish = shared.chat("hello", ann, 7)
    ref.tell_nowait(Publish(publish.draft, ann, 7, reply))
    ref.watch(reply)
    if is_stopping:
        ref.stop_nowait()
    else:
        ref.tell_always(FeedEvents("e", [None]))  # what no feed can bring
    await wait_all_tasks_blocked()
    assert not reply.is_settled
    engine.reply()
    await wait_all_tasks_blocked()
    published = reply.get_nowait()
    assert published.receipt.position is not None
    assert len(ann.heard_of(Acknowledged)) == 1
    await engine.settle()
    # A room that starts again catches up before the arrival.
    assert [notice.event.offset for notice in ann.heard_of(RoomEvent)] == ([] if is_stopping else [1])
