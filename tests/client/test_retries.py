"""A publisher's reactions to answers, without any I/O."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.client.errors import ClientError, RefusedError, UnavailableError
from broker.client.results import Published
from broker.client.retries import Attempts, RetryAfter, read_answer, read_count, read_outcomes


class NoJitter(Random):
    def uniform(self, a: float, b: float) -> float:
        return 0.0


def attempts(give_up_at: float = 1000.0) -> Attempts:
    return Attempts("key", give_up_at, NoJitter())


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", 0.0), ("-1", 0.0), ("²", 0.0), ("", 0.0)]
)
def test_retry_after_in_seconds(value, seconds):
    assert attempts().answered(503, {"retry-after": value}, b"", 0.0) == RetryAfter(seconds)


@pytest.mark.parametrize(("offset", "least", "most"), [(60, 55.0, 60.0), (-60, 0.0, 0.0)])
def test_retry_after_as_a_date(offset, least, most):
    moment = datetime.now(UTC) + timedelta(seconds=offset)
    for value in (format_datetime(moment, usegmt=True), format_datetime(moment.replace(tzinfo=None))):
        again = attempts().answered(429, {"retry-after": value}, b"", 0.0)
        assert isinstance(again, RetryAfter)
        assert least <= again.after_seconds <= most


@given(st.lists(st.sampled_from([0, 429, 502, 503, 504]), max_size=60), st.integers())
def test_it_always_comes_to_an_end(statuses, seed):
    """With any answers, the last attempt begins before the time limit, and the waits are bounded."""
    tried = Attempts("key", 15.0, Random(seed))
    now = 0.0
    for status in statuses:
        try:
            step = tried.answered(status, {}, b"", now) if status else tried.failed("no answer", now)
        except UnavailableError:
            return
        assert isinstance(step, RetryAfter)
        assert 0 <= step.after_seconds <= 5.0
        now += step.after_seconds
        assert now < 15.0


@pytest.mark.parametrize("status", [199, 301, 400, 404, 413, 500])
def test_other_statuses_are_final(status):
    with pytest.raises(RefusedError) as refused:
        attempts().answered(status, {}, b'{"detail": 5}', 0.0)
    assert refused.value.code == f"http_{status}"


@pytest.mark.parametrize("read", [partial(read_answer, kind=Published), read_outcomes, read_count("removed")])
@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", b"{}", b"null", b'{"results": [{}]}', b'{"results": [1]}', b"\xff"]
)
def test_a_good_answer_of_somebody_else_is_told(read, body):
    with pytest.raises(ClientError, match="no Greenroom server"):
        read(body)


@pytest.mark.parametrize("off_seconds", [-86_400, 0, 86_400])
@pytest.mark.parametrize(("wait", "seconds"), [(7, 7.0), (-7, 0.0)])
def test_retry_after_as_a_date_is_told_by_the_clock_of_who_says_it(off_seconds, wait, seconds):
    now = datetime.now(UTC) + timedelta(seconds=off_seconds)
    date, after = (format_datetime(moment, usegmt=True) for moment in (now, now + timedelta(seconds=wait)))
    again = attempts().answered(503, {"retry-after": after, "date": date}, b"", 0.0)
    assert again == RetryAfter(seconds)


def test_a_date_that_is_none_is_passed_over():
    after = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    again = attempts().answered(503, {"retry-after": after, "date": "today"}, b"", 0.0)
    assert isinstance(again, RetryAfter)
    assert 55 <= again.after_seconds <= 60
