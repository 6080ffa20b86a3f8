"""Events of a room: once to each member, in one order, and acknowledged once stored."""

from typing import TYPE_CHECKING

import pytest

from broker.model import Draft, IdempotencyKey, Position
from broker.notices import Acknowledged, RoomEvent

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage
    from tests.support.members import Person


async def test_everyone_hears_everything_in_one_order(stage: "Stage") -> None:
    people = [await stage.enter(f"user {number}") for number in range(3)]
    for person in people:
        person.forget()
    await stage.tell(*[stage.chat(f"{number}", people[number % 3]) for number in range(6)])
    await stage.say("6")
    for person in people:
        assert person.texts() == ["0", "1", "2", "3", "4", "5", "6"]
        assert person.offsets() == [1, 2, 3, 4, 5, 6, 7]
    [said, *_] = people[0].heard_of(RoomEvent)
    assert (said.room, said.epoch) == ("den", (await stage.position()).epoch)


async def test_waiting_publishes_are_one_append_and_one_frame(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    encoded = stage.codec.encoded
    await stage.tell(*[stage.chat(f"{number}", ann, number) for number in range(50)])
    assert [len(drafts) for drafts in stage.engine.appended] == [50]
    assert stage.codec.encoded == encoded + 1
    assert stage.engine.reads == 0
    assert bob.offsets() == list(range(1, 51))


async def test_other_messages_keep_their_place_between_publishes(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), stage.person("bob")
    ann.forget()
    reply_less = stage.chat("2", ephemeral=True)
    await stage.tell(stage.chat("1"), stage.joining(bob), reply_less, stage.leaving(bob), stage.chat("3"))
    assert [getattr(notice, "user_id", None) or notice.event.content.decode() for notice in ann.heard] == [  # type: ignore[union-attr]
        "1",
        "bob",
        "2",
        "bob",
        "3",
    ]
    assert bob.texts() == ["2"]
    assert [len(drafts) for drafts in stage.engine.appended] == [1, 1, 1]


async def test_acknowledgements_come_after_the_events(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    await stage.tell(
        stage.chat("1", ann, "a"), stage.chat("2", bob, 7), stage.chat("3", ann, "b"), stage.chat("4", ann)
    )
    epoch = (await stage.position()).epoch
    assert [type(notice) for notice in ann.heard] == [RoomEvent] * 4 + [Acknowledged] * 2
    assert ann.heard[4:] == [
        Acknowledged("den", Position(epoch, 1), "a"),
        Acknowledged("den", Position(epoch, 3), "b"),
    ]
    # Those of a batch go out together: one frame, one write.
    assert ann.outbox.replies[-1] == tuple(ann.heard[4:])
    assert bob.heard_of(Acknowledged) == [Acknowledged("den", Position(epoch, 2), 7)]
    assert isinstance(bob.heard[-1], Acknowledged)


async def test_a_publish_without_an_id_is_not_acknowledged(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    await stage.tell(stage.chat("1", ann))
    assert [type(notice) for notice in ann.heard] == [RoomEvent]


@pytest.mark.parametrize("is_same_batch", [True, False])
async def test_a_repetition_is_acknowledged_with_the_first_offset_and_told_to_nobody(
    stage: "Stage", is_same_batch: bool
) -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    messages = [stage.chat("1", ann, "x"), stage.chat("other", ann, "y"), stage.chat("1", ann, "x")]
    if is_same_batch:
        await stage.tell(*messages)
    else:
        for message in messages:
            await stage.tell(message)
    epoch = (await stage.position()).epoch
    assert bob.texts() == ann.texts() == ["1", "other"]
    assert ann.heard_of(Acknowledged) == [
        Acknowledged("den", Position(epoch, 1), "x"),
        Acknowledged("den", Position(epoch, 2), "y"),
        Acknowledged("den", Position(epoch, 1), "x"),
    ]


async def test_a_batch_of_nothing_but_repetitions_says_nothing(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    await stage.tell(stage.chat("1", ann, "x"))
    ann.forget()
    await stage.tell(stage.chat("1", ann, "x"), stage.chat("1", ann, "x"))
    assert [type(notice) for notice in ann.heard] == [Acknowledged] * 2
    await stage.say("2")
    assert ann.offsets() == [2]


async def test_a_repetition_is_known_after_leaving_and_coming_back(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    await stage.tell(stage.chat("1", ann, "x"), stage.leaving(ann))
    again = await stage.enter("ann")
    await stage.tell(stage.chat("1", again, "x"))
    assert again.heard == [Acknowledged("den", Position((await stage.position()).epoch, 1), "x")]


async def test_ephemeral_events_take_their_turn_and_no_offset(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    await stage.tell(
        stage.chat("1", ann, 1),
        stage.chat("hey", ann, 2, ephemeral=True),
        stage.chat("2", ann, 3, ephemeral=False),
    )
    await stage.tell(stage.chat("ho", ephemeral=True))
    assert bob.texts() == ["1", "hey", "2", "ho"]
    assert bob.offsets() == [1, None, 2, None]
    assert [ack.position and ack.position.offset for ack in ann.heard_of(Acknowledged)] == [1, None, 2]


async def test_a_room_without_history_says_things_all_the_same(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1", "2")
        await stage.say("3")
        assert ann.offsets() == [1, 2, 3]


async def test_an_application_is_given_the_receipt_and_the_size(stage: "Stage") -> None:
    people: list[Person] = [await stage.enter(f"user {number}") for number in range(2)]
    key = IdempotencyKey("http", "k")
    published = await stage.rooms.publish("den", Draft(b"1", key=key))
    assert (published.receipt.position, published.room_size) == (await stage.position(), 2)
    assert published.receipt.event is not None
    again = await stage.rooms.publish("den", Draft(b"1", key=key))
    assert (again.receipt.position, again.receipt.event) == (published.receipt.position, None)
    ephemeral = await stage.rooms.publish("den", Draft(b"2", ephemeral=True))
    assert ephemeral.receipt.position is None
    assert [person.texts() for person in people] == [["1", "2"]] * 2


async def test_rooms_do_not_hear_each_other(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann", room="den"), await stage.enter("bob", room="attic")
    await stage.say("1", room="den")
    await stage.say("2", room="attic")
    assert (ann.texts(), bob.texts()) == (["1"], ["2"])
    assert (ann.offsets(), bob.offsets()) == ([1], [1])
