"""The pointers of the example, on virtual time."""

import pytest
from trio.testing import MockClock

from broker.testing import RefusedError, Visitor, World, open_test_broker
from examples.cursors import Cursors, settings


def pointers(visitor: Visitor) -> dict[str, list[float]]:
    """Return the pointers that the page of a visitor shows, by user."""
    shown: dict[str, list[float]] = {}
    for message in visitor.of_type("cursor"):
        shown.pop(message["user"], None)
        if message["place"] is not None:
            shown[message["user"]] = message["place"]
    return shown


async def join(world: World, *users: str) -> list[Visitor]:
    return [await world.join("cursors.1", user=user) for user in users]


async def move(visitor: Visitor, x: float, y: float) -> None:
    await visitor.publish("move", [x, y], ephemeral=True)


async def test_others_see_a_pointer_appear_move_and_vanish(autojump_clock: MockClock) -> None:
    async with open_test_broker([Cursors]) as world:
        ann, ben, cat = await join(world, "ann", "ben", "cat")
        await move(ann, 0.25, 0.5)
        await move(ben, 1, 0)
        await move(ann, 0.75, 0.5)
        assert pointers(cat) == {"ann": [0.75, 0.5], "ben": [1, 0]}
        assert pointers(ann) == {"ben": [1, 0]}
        await ann.publish("move", None, ephemeral=True)
        assert pointers(cat) == {"ben": [1, 0]}
        await ben.drop()
        await world.pass_time(1)
        assert pointers(cat) == pointers(ann) == {}


async def test_who_joins_sees_the_pointers_that_are_there(autojump_clock: MockClock) -> None:
    async with open_test_broker([Cursors]) as world:
        ann, ben = await join(world, "ann", "ben")
        await move(ann, 0.25, 0.5)
        await move(ben, 0.5, 0.5)
        await ben.leave()
        [cat] = await join(world, "cat")
        assert pointers(cat) == {"ann": [0.25, 0.5]}


async def test_two_windows_of_a_user_are_two_pointers(autojump_clock: MockClock) -> None:
    async with open_test_broker([Cursors]) as world:
        one, other, ben = await join(world, "ann", "ann", "ben")
        await move(one, 0.25, 0.5)
        await move(other, 0.5, 0.5)
        places = {each["connection"]: each["place"] for each in ben.of_type("cursor")}
        assert sorted(places.values()) == [[0.25, 0.5], [0.5, 0.5]]
        assert [each["place"] for each in one.of_type("cursor")] == [[0.5, 0.5]]


async def test_a_slow_reader_gets_the_latest_place_of_each_pointer(autojump_clock: MockClock) -> None:
    async with open_test_broker([Cursors], settings=settings) as world:
        ann, ben, cat = await join(world, "ann", "ben", "cat")
        await cat.stop_reading()
        for step in range(100):
            await move(ann, step / 100, 0.5)
            await move(ben, 0.5, step / 100)
        await cat.read_again()
        assert pointers(cat) == {"ann": [0.99, 0.5], "ben": [0.5, 0.99]}
        assert len(cat.of_type("cursor")) < 10
        assert len(ann.of_type("cursor")) == 100


async def test_nothing_of_it_is_stored(autojump_clock: MockClock) -> None:
    async with open_test_broker([Cursors], settings=settings) as world:
        ann, ben = await join(world, "ann", "ben")
        await move(ann, 0.25, 0.5)
        assert (await ben.ask(type="history"))["messages"] == []
        assert await world.state("cursors.1") is None
        [shown] = ben.of_type("cursor")
        assert "offset" not in shown


@pytest.mark.parametrize("place", [[0.5], [0.5, 1.5], [-0.1, 0], ["0.5", 0.5], {"x": 0.5}, "here"])
async def test_a_place_outside_of_the_page_is_refused(autojump_clock: MockClock, place: object) -> None:
    async with open_test_broker([Cursors]) as world:
        ann, ben = await join(world, "ann", "ben")
        with pytest.raises(RefusedError, match="invalid_message: move"):
            await ann.publish("move", place, ephemeral=True)
        with pytest.raises(RefusedError, match="nothing is said"):
            await ann.chat("hello")
        assert not ben.of_type("cursor")
        assert not ben.of_type("chat")
