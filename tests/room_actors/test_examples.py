"""The rooms of the examples, on virtual time."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from broker.testing.world import RefusedError, Visitor, World, open_test_broker
from examples.quiz import ANSWER_SECONDS, PAUSE_SECONDS, QUESTIONS, Quiz


def shown(visitor: Visitor) -> dict[str, object]:
    return visitor.of_type("quiz")[-1]


async def join_quiz(world: World, *users: str) -> list[Visitor]:
    visitors = [await world.join("quiz.1", user=user) for user in users]
    await world.pass_time(0.1)
    return visitors


async def answer_at_once(visitors: list[Visitor], choice: int) -> list[bool | str]:
    answers: list[bool | str] = []

    async def answer(visitor: Visitor) -> None:
        try:
            answers.append(await visitor.call("answer", choice))
        except RefusedError as error:
            answers.append(str(error))

    async with trio.open_nursery() as nursery:
        for visitor in visitors:
            nursery.start_soon(partial(answer, visitor))
    return answers


async def test_of_all_that_answer_right_at_once_one_has_the_point(autojump_clock: MockClock) -> None:
    async with open_test_broker([Quiz]) as world:
        visitors = await join_quiz(world, "ann", "ben", "carl", "dora")
        answers = await answer_at_once(visitors, QUESTIONS[0].right)
        assert sorted(map(str, answers)) == ["True"] + ["forbidden: there is no question"] * 3
        for visitor in visitors:
            assert shown(visitor)["points"] == {shown(visitor)["won_by"]: 1}


async def test_a_guess_is_the_only_one_for_its_question(autojump_clock: MockClock) -> None:
    async with open_test_broker([Quiz]) as world:
        ann, ben = await join_quiz(world, "ann", "ben")
        assert await ann.call("answer", QUESTIONS[0].right + 1) is False
        with pytest.raises(RefusedError, match="you have had your guess"):
            await ann.call("answer", QUESTIONS[0].right)
        assert await ben.call("answer", QUESTIONS[0].right) is True
        await world.pass_time(PAUSE_SECONDS + 1)
        assert await ann.call("answer", QUESTIONS[1].right) is True
        assert shown(ben)["points"] == {"ann": 1, "ben": 1}


async def test_the_clock_asks_one_question_after_the_other_then_all_again(autojump_clock: MockClock) -> None:
    async with open_test_broker([Quiz]) as world:
        [ann] = await join_quiz(world, "ann")
        await ann.call("answer", QUESTIONS[0].right)
        await world.pass_time(PAUSE_SECONDS)
        for question in QUESTIONS[1:]:
            assert shown(ann)["text"] == question.text
            assert "right" not in shown(ann)
            await world.pass_time(ANSWER_SECONDS)
            assert (shown(ann)["right"], shown(ann)["won_by"]) == (question.right, None)
            assert shown(ann)["points"] == {"ann": 1}
            await world.pass_time(PAUSE_SECONDS)
        assert (shown(ann)["number"], shown(ann)["points"]) == (1, {})


async def test_it_stops_with_nobody_there_and_goes_on_with_the_next_question(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Quiz]) as world:
        [ann] = await join_quiz(world, "ann")
        await ann.leave()
        await world.pass_time(10 * (ANSWER_SECONDS + PAUSE_SECONDS))
        [ann] = await join_quiz(world, "ann")
        assert shown(ann)["number"] == 2


async def test_question_guesses_points_and_time_outlive_a_killed_server(autojump_clock: MockClock) -> None:
    async with open_test_broker([Quiz]) as world:
        ann, ben = await join_quiz(world, "ann", "ben")
        await ann.call("answer", QUESTIONS[0].right)
        await world.pass_time(PAUSE_SECONDS)
        await ben.call("answer", QUESTIONS[1].right + 1)
        await world.pass_time(3)
        await world.kill()
        await world.pass_time(4)
        await world.start()
        ann, ben = await join_quiz(world, "ann", "ben")
        assert (shown(ann)["number"], shown(ann)["points"]) == (2, {"ann": 1})
        assert shown(ann)["seconds_left"] == pytest.approx(ANSWER_SECONDS - 7, abs=0.5)
        with pytest.raises(RefusedError, match="you have had your guess"):
            await ben.call("answer", QUESTIONS[1].right)
        await world.pass_time(ANSWER_SECONDS - 7)
        assert shown(ann)["right"] == QUESTIONS[1].right
