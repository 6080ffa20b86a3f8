"""The answers of a model that stream into a room, on virtual time."""

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import MockClock

from broker.testing import RefusedError, Visitor, World, open_test_broker
from examples.answers import ANSWER, LOOK_SECONDS, MOST_TRIES, PIECE_SECONDS, SILENCE_SECONDS, Answers

WHOLE = ANSWER.format(question="Why?")
PIECES = len(WHOLE.split())


def read(visitor: Visitor) -> tuple[str | None, str]:
    """Return the question and the text that the page of a visitor shows as under way."""
    question, text = None, ""
    for message in visitor.heard:
        match message["type"]:
            case "answering":
                question, text = message["question"], message["text"]
            case "piece":
                text += message["text"]
            case "answer":
                question, text = None, ""
    return question, text


async def stored(world: World) -> list[tuple[str, bool]]:
    """Return the answers that somebody finds who comes later: text, and whether it is whole."""
    late = await world.join("lobby", user="late")
    joined = await late.ask(type="join", room="answers.1", last=100)
    return [(each["text"], each["is_whole"]) for each in joined["messages"]]


async def join(world: World, *users: str) -> list[Visitor]:
    return [await world.join("answers.1", user=user) for user in users]


async def test_whoever_joins_when_reads_each_word_once(autojump_clock: MockClock) -> None:
    async with open_test_broker([Answers]) as world:
        [ann] = await join(world, "ann")
        await ann.call("ask", "Why?")
        visitors = [ann]
        for number in range(PIECES):
            await world.pass_time(PIECE_SECONDS)
            if number % 6 == 0:
                visitors += await join(world, f"user {number}")
            texts = {read(visitor) for visitor in visitors}
            assert len(texts) == 1, "all pages show the same"
            [(question, text)] = texts
            if question is None:
                break
            assert question == "Why?"
            assert WHOLE.startswith(text)
            assert len(text.split()) >= number
        await world.pass_time(2 * PIECE_SECONDS)
        assert [each["text"] for each in ann.of_type("answer")] == [WHOLE]
        assert await stored(world) == [(WHOLE, True)]


async def test_it_goes_on_while_nobody_is_there(autojump_clock: MockClock) -> None:
    async with open_test_broker([Answers]) as world:
        [ann] = await join(world, "ann")
        await ann.call("ask", "Why?")
        await world.pass_time(3 * PIECE_SECONDS)
        await ann.drop()
        await world.pass_time(3 * PIECE_SECONDS)
        [again] = await join(world, "ann")
        question, text = read(again)
        assert (question, len(text.split())) == ("Why?", 7)
        await again.leave()
        await world.pass_time(PIECES * PIECE_SECONDS)
        assert await stored(world) == [(WHOLE, True)]
        assert (await world.state("answers.1"))["question"] is None


async def test_one_question_at_a_time_then_the_next(autojump_clock: MockClock) -> None:
    async with open_test_broker([Answers]) as world:
        ann, ben = await join(world, "ann", "ben")
        await ann.call("ask", "Why?")
        with pytest.raises(RefusedError, match="one question at a time"):
            await ben.call("ask", "When?")
        for wrong in ("", "x" * 501, 5):
            with pytest.raises(RefusedError, match="invalid_message"):
                await ben.call("ask", wrong)
        await world.pass_time(2 * PIECES * PIECE_SECONDS)
        await ben.call("ask", "When?")
        await world.pass_time(2 * PIECES * PIECE_SECONDS)
        assert [text for text, _ in await stored(world)] == [WHOLE, ANSWER.format(question="When?")]


@pytest.mark.parametrize("is_somebody_there", [False, True])
async def test_it_goes_on_after_the_server_was_killed(
    autojump_clock: MockClock, is_somebody_there: bool
) -> None:
    async with open_test_broker([Answers]) as world:
        [ann] = await join(world, "ann")
        await ann.call("ask", "Why?")
        for _ in range(5):  # more than it may be tried without a piece
            await world.pass_time(3.5 * PIECE_SECONDS)
            await world.kill()
            await world.start()
            if is_somebody_there:
                [ann] = await join(world, "ann")
                assert read(ann)[0] == "Why?"
                assert len(read(ann)[1].split()) > 3
            else:
                await world.pass_time(LOOK_SECONDS)
        await world.pass_time(2 * PIECES * PIECE_SECONDS)
        assert await stored(world) == [(WHOLE, True)]


async def test_it_goes_on_after_the_engine_was_away(autojump_clock: MockClock) -> None:
    async with open_test_broker([Answers]) as world:
        [ann] = await join(world, "ann")
        await ann.call("ask", "Why?")
        for _ in range(3):
            await world.pass_time(2.5 * PIECE_SECONDS)
            with world.engine_unavailable():
                await world.pass_time(3.3 * PIECE_SECONDS)
        await world.pass_time(LOOK_SECONDS + 2 * PIECES * PIECE_SECONDS)
        assert await stored(world) == [(WHOLE, True)]


class Mute(Answers, pattern="answers.*"):
    """Its model says two words and then nothing."""

    @staticmethod
    async def ask_model(question: str, said: str) -> AsyncGenerator[str]:
        for word in ("Well", " then")[len(said.split()) :]:
            yield word
        await trio.sleep_forever()


class Broken(Mute, pattern="answers.*"):
    """Its model fails after its first word."""

    @staticmethod
    async def ask_model(question: str, said: str) -> AsyncGenerator[str]:
        if not said:
            yield "Well"
        raise ConnectionError("the model is away")


@pytest.mark.parametrize(("actor", "said"), [(Mute, "Well then"), (Broken, "Well")])
async def test_an_answer_whose_model_says_no_more_is_broken_off(
    autojump_clock: MockClock, actor: type[Answers], said: str
) -> None:
    async with open_test_broker([actor]) as world:
        [ann] = await join(world, "ann")
        await ann.call("ask", "Why?")
        await world.pass_time((MOST_TRIES + 1) * SILENCE_SECONDS)
        assert await stored(world) == [(said, False)]
        assert read(ann) == (None, "")
        await ann.call("ask", "And now?")
