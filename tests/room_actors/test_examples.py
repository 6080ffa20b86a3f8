"""The rooms of the examples, on virtual time."""

import pytest
import trio
from trio.testing import MockClock

from broker.testing import RefusedError, Visitor, World, open_test_broker
from examples.auction import CLOSE_SECONDS, Auction
from examples.quiz import ANSWER_SECONDS, PAUSE_SECONDS, QUESTIONS, Quiz


def shown(visitor: Visitor) -> dict[str, object]:
    """Return what the page of a visitor shows."""
    return [message for message in visitor.heard if message["type"] in {"quiz", "auction"}][-1]


async def join_quiz(world: World, *users: str) -> list[Visitor]:
    visitors = [await world.join("quiz.1", user=user) for user in users]
    await world.pass_time(0.1)
    return visitors


async def call_at_once(visitors: list[Visitor], method: str, data: int) -> list[object]:
    answers: list[object] = []

    async def ask(visitor: Visitor) -> None:
        try:
            answers.append(await visitor.call(method, data))
        except RefusedError as error:
            answers.append(str(error))

    async with trio.open_nursery() as nursery:
        for visitor in visitors:
            nursery.start_soon(ask, visitor)
    return answers


async def test_of_all_that_answer_right_at_once_one_has_the_point(autojump_clock: MockClock) -> None:
    async with open_test_broker([Quiz]) as world:
        visitors = await join_quiz(world, "ann", "ben", "carl", "dora")
        answers = await call_at_once(visitors, "answer", QUESTIONS[0].right)
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


async def join_auction(world: World, *users: str) -> list[Visitor]:
    return [await world.join("auction.lamp", user=user) for user in users]


async def test_of_all_bids_at_one_price_the_first_holds(autojump_clock: MockClock) -> None:
    async with open_test_broker([Auction]) as world:
        visitors = await join_auction(world, "ann", "ben", "carl", "dora")
        for price in (10, 20):
            answers = await call_at_once(visitors, "bid", price)
            assert sorted(map(str, answers)) == ["None"] + [f"forbidden: {price} is bid already"] * 3
        for visitor in visitors:
            bids = [each for each in visitor.of_type("auction") if each["price"]]
            assert [each["price"] for each in bids] == [10, 20]
        await world.pass_time(CLOSE_SECONDS + 1)
        [(price, winner, is_closed)] = {
            (shown(each)["price"], shown(each)["bidder"], shown(each)["is_closed"]) for each in visitors
        }
        assert (price, winner, is_closed) == (20, bids[-1]["bidder"], True)
        for visitor in visitors:
            with pytest.raises(RefusedError, match="the auction is closed"):
                await visitor.call("bid", 30)


@pytest.mark.parametrize("price", [0, -1, 1_000_001, 1.5, "10", None])
async def test_a_bid_that_is_no_price_is_refused(autojump_clock: MockClock, price: object) -> None:
    async with open_test_broker([Auction]) as world:
        [ann] = await join_auction(world, "ann")
        with pytest.raises(RefusedError, match="invalid_message"):
            await ann.call("bid", price)


async def test_each_bid_moves_the_end(autojump_clock: MockClock) -> None:
    async with open_test_broker([Auction]) as world:
        [ann] = await join_auction(world, "ann")
        for price in (1, 2, 3):
            await world.pass_time(CLOSE_SECONDS - 1)
            await ann.call("bid", price)
        await world.pass_time(CLOSE_SECONDS - 1)
        assert shown(ann)["is_closed"] is False
        await world.pass_time(2)
        assert shown(ann)["is_closed"] is True


async def test_an_auction_is_for_a_lot(autojump_clock: MockClock) -> None:
    async with open_test_broker([Auction]) as world:
        with pytest.raises(ConnectionError, match="no such lot"):
            await world.join("auction.castle", user="ann")


@pytest.mark.parametrize("away_seconds", [5, 10 * CLOSE_SECONDS])
async def test_bids_and_the_end_outlive_a_killed_server(
    autojump_clock: MockClock, away_seconds: float
) -> None:
    async with open_test_broker([Auction]) as world:
        ann, ben = await join_auction(world, "ann", "ben")
        await ann.call("bid", 10)
        await ben.call("bid", 11)
        await world.kill()
        await world.pass_time(away_seconds)
        await world.start()
        await world.pass_time(0.1)
        [ann] = await join_auction(world, "ann")
        assert (shown(ann)["price"], shown(ann)["bidder"]) == (11, "ben")
        left = max(0, CLOSE_SECONDS - away_seconds)
        assert shown(ann)["seconds_left"] == pytest.approx(left, abs=0.5)
        await world.pass_time(left + 1)
        assert (shown(ann)["bidder"], shown(ann)["is_closed"]) == ("ben", True)
