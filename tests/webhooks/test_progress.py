"""The decisions about one queue: pauses, retries and putting aside."""

from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.webhooks.progress import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    Failure,
    FailureReason,
    Post,
    Progress,
    PutAside,
    Wait,
    longest_pause,
)
from tests.webhooks.entries import entry

GIVE_UP_MS = 100_000
REFUSED = Failure(FailureReason.STATUS, "status 500")
NOBODY = Failure(FailureReason.CONNECT, "connection refused")


def test_pauses_double_from_one_second_to_five_minutes() -> None:
    caps = [longest_pause(failures) for failures in range(1, 12)]
    assert caps[:3] == [FIRST_RETRY_SECONDS, 2.0, 4.0]
    assert caps[-2:] == [LAST_RETRY_SECONDS, LAST_RETRY_SECONDS]
    assert longest_pause(1_000_000) == LAST_RETRY_SECONDS


def test_pauses_have_full_jitter() -> None:
    waits = []
    for seed in range(200):
        progress = Progress(GIVE_UP_MS, Random(seed))
        for _ in range(3):
            progress.failed([entry(1)], REFUSED, now=0.0)
        step = progress.next_step([entry(1)], now=0.0, now_ms=0)
        assert isinstance(step, Wait)
        waits.append(step.seconds)
    assert min(waits) < 0.4
    assert 3.6 < max(waits) <= 4.0


def test_a_success_begins_with_short_pauses_again() -> None:
    progress = Progress(GIVE_UP_MS, Random(1))
    for _ in range(9):
        progress.failed([entry(1)], REFUSED, now=0.0)
    progress.delivered()
    assert progress.next_step([entry(2)], now=0.0, now_ms=0) == Post()
    progress.failed([entry(2)], REFUSED, now=0.0)
    step = progress.next_step([entry(2)], now=0.0, now_ms=0)
    assert isinstance(step, Wait)
    assert step.seconds <= FIRST_RETRY_SECONDS


def test_an_old_entry_is_tried_before_it_is_put_aside() -> None:
    progress = Progress(GIVE_UP_MS, Random(1))
    old = [entry(1), entry(2)]
    assert progress.next_step(old, now=0.0, now_ms=GIVE_UP_MS * 9) == Post()
    progress.failed(old, REFUSED, now=0.0)
    assert progress.next_step(old, now=0.0, now_ms=GIVE_UP_MS * 9) == PutAside((1, 2), "status 500")
    progress.put_aside((1, 2))
    # The entries behind may be taken.
    assert progress.next_step([entry(3)], now=0.0, now_ms=GIVE_UP_MS * 9) == Post()


def test_the_rest_of_a_batch_of_which_a_part_is_put_aside_waits_as_the_batch_did() -> None:
    progress = Progress(GIVE_UP_MS, Random(1))
    progress.failed([entry(1), entry(2, queued_ms=1)], REFUSED, now=0.0)
    assert progress.next_step([entry(1), entry(2, queued_ms=1)], now=0.0, now_ms=GIVE_UP_MS) == PutAside(
        (1,), "status 500"
    )
    progress.put_aside((1,))
    assert isinstance(progress.next_step([entry(2, queued_ms=1)], now=0.0, now_ms=GIVE_UP_MS), Wait)


def test_with_nobody_to_connect_to_all_that_is_old_is_put_aside() -> None:
    progress = Progress(GIVE_UP_MS, Random(1))
    progress.failed([entry(1)], NOBODY, now=0.0)
    assert isinstance(progress.next_step([entry(1)], now=0.0, now_ms=GIVE_UP_MS), PutAside)
    progress.put_aside((1,))
    step = progress.next_step([entry(2), entry(3, queued_ms=1)], now=0.0, now_ms=GIVE_UP_MS)
    assert step == PutAside((2,), "connection refused")
    progress.put_aside((2,))
    assert isinstance(progress.next_step([entry(3, queued_ms=1)], now=0.0, now_ms=GIVE_UP_MS), Wait)


@attrs.define
class World:
    """A queue whose reader follows the steps in virtual time."""

    progress: Progress
    now: float = 0.0
    posts: list[tuple[float, tuple[int, ...], Failure | None]] = attrs.Factory(list)
    aside: list[int] = attrs.Factory(list)
    delivered: list[int] = attrs.Factory(list)


failures = st.sampled_from([Failure(reason, reason.value) for reason in FailureReason])


@given(
    queued_ms=st.lists(st.integers(0, 400_000), min_size=1, max_size=12),
    outcomes=st.lists(st.none() | failures, max_size=40),
    batch=st.integers(1, 4),
    seed=st.integers(),
)
@pytest.mark.parametrize("give_up_ms", [5_000, GIVE_UP_MS])
def test_every_entry_is_delivered_in_order_or_put_aside_when_it_is_old(
    give_up_ms: int, queued_ms: list[int], outcomes: list[Failure | None], batch: int, seed: int
) -> None:
    world = World(Progress(give_up_ms, Random(seed)))
    queue = [entry(number, queued_ms=at) for number, at in enumerate(sorted(queued_ms), 1)]
    ages = {each.number: each.queued_ms for each in queue}
    answers = iter(outcomes)
    head: list = []
    retry_until = 0.0
    while queue or head:
        if not head:
            world.now = max(world.now, queue[0].queued_ms / 1000)
            ready = [each for each in queue if each.queued_ms <= world.now * 1000]
            head = ready[:batch]
        now_ms = int(world.now * 1000)
        match world.progress.next_step(head, now=world.now, now_ms=now_ms):
            case Wait(seconds):
                assert 0 < seconds <= LAST_RETRY_SECONDS
                assert world.posts[-1][2] is not None
                world.now += seconds
                assert world.now <= retry_until
            case PutAside(numbers, reason):
                last = world.posts[-1]
                assert last[2] is not None
                assert reason == last[2].detail
                for number in numbers:
                    assert now_ms - ages[number] >= give_up_ms
                    assert number in last[1] or last[2].reason is FailureReason.CONNECT
                world.aside += numbers
                world.progress.put_aside(numbers)
                head = [each for each in head if each.number not in numbers]
                queue = [each for each in queue if each.number not in numbers]
            case Post():
                numbers = tuple(each.number for each in head)
                # The receiver takes all once the answers are used up.
                outcome = next(answers, None)
                world.posts.append((world.now, numbers, outcome))
                world.now += 0.01
                if outcome is None:
                    world.delivered += numbers
                    world.progress.delivered()
                    queue = [each for each in queue if each.number not in numbers]
                    head = []
                else:
                    world.progress.failed(head, outcome, now=world.now)
                    retry_until = world.now + LAST_RETRY_SECONDS
    assert sorted(world.delivered + world.aside) == list(ages)
    assert world.delivered == sorted(world.delivered)
