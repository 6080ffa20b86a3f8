"""Answers to calls with an id are stored within bounds, and no call is done twice for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.config.settings import HistorySettings, Settings
from broker.model import IdempotencyKey
from broker.room_actors import Member, RoomActor, call
from broker.room_actors.answer_budget import DROPPED, SMALL_BYTES, AnswerBudget, AnswerLimits
from broker.testing import RefusedError, open_test_broker

LIMITS = AnswerLimits(user_bytes=10_000, total_bytes=25_000, seconds=300.0)

steps = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 6_000), st.sampled_from([0.0, 1.0, 100.0, 301.0])),
    max_size=60,
)


@given(steps)
def test_what_is_stored_at_a_time_is_bounded(steps: list[tuple[str, int, float]]) -> None:
    budget, now = AnswerBudget(LIMITS, 0.0), 0.0
    stored: list[tuple[float, str, int]] = []
    for user, size, pause in steps:
        now += pause
        content = b"x" * size
        kept = budget.kept(IdempotencyKey(user, "k"), content, now)
        assert kept == content if size <= SMALL_BYTES else kept in {content, DROPPED}
        if size > SMALL_BYTES:
            stored.append((now, user, len(kept)))
        alive = [(whose, bytes_) for at, whose, bytes_ in stored if at + LIMITS.seconds > now]
        assert sum(bytes_ for _, bytes_ in alive) <= LIMITS.total_bytes
        assert sum(bytes_ for whose, bytes_ in alive if whose == user) <= LIMITS.user_bytes


def test_one_user_takes_nothing_from_another_and_all_is_free_after_the_window() -> None:
    budget, large = AnswerBudget(LIMITS, 0.0), b"x" * 5_000
    ann, ben = IdempotencyKey("ann", "k"), IdempotencyKey("ben", "k")
    assert [budget.kept(ann, large, 0.0) for _ in range(3)] == [large, DROPPED, DROPPED]
    assert budget.kept(ben, large, 0.0) == large
    assert budget.kept(ann, large, 301.0) == large
    assert len(budget) == 1


class Library(RoomActor[None], pattern="library"):
    """Counts how often it was called."""

    calls = 0

    @call
    async def read(self, sender: Member | None, characters: int) -> str:
        type(self).calls += 1
        return "x" * characters


async def test_a_call_whose_answer_was_not_kept_is_refused_and_not_done_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "calls", 0)
    settings = Settings(history=HistorySettings(user_answers_bytes=10_000))
    async with open_test_broker([Library], settings=settings) as world:
        ann = await world.join("library", user="ann")
        for number in range(3):
            assert await ann.call("read", 4_000, request_id=f"{number}") == "x" * 4_000
        assert await ann.call("read", 100, request_id="small") == "x" * 100
        for _ in range(2):
            assert await ann.call("read", 4_000, request_id="0") == "x" * 4_000
            assert await ann.call("read", 100, request_id="small") == "x" * 100
            with pytest.raises(RefusedError, match="done before") as refused:
                await ann.call("read", 4_000, request_id="2")
            assert refused.value.code == "forbidden"
            await world.kill()
            await world.start()
            ann = await world.join("library", user="ann")
        assert Library.calls == 4
