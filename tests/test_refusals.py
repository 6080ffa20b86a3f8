"""Refusals are counted by reason, and logged without letting strangers fill the disk."""

import io
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.settings import LogSettings
from broker.errors import CloseCode, Disconnect, ErrorCode, RefusalReason
from broker.log import open_log
from broker.refusals import LINES_PER_ADDRESS, LINES_PER_REASON, WINDOW_SECONDS, Refusals

REASONS = (*RefusalReason, *ErrorCode)


@attrs.define
class Bench:
    """Refusals with a log that can be read and a clock that can be set."""

    now: float = 0.0
    stream: io.StringIO = attrs.Factory(io.StringIO)
    refusals: Refusals = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.refusals = Refusals(open_log(LogSettings(), self.stream), clock=lambda: self.now)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.mark.parametrize("why", REASONS)
def test_each_reason_is_counted_and_told_with_address_and_help(why: RefusalReason | ErrorCode) -> None:
    bench = Bench()
    bench.refusals.note(why, "10.0.0.1")
    assert bench.refusals.counts == {why: 1}
    [line] = bench.lines
    assert (line["event"], line["why"], line["address"]) == ("refused", why.value, "10.0.0.1")
    assert len(line["help"]) > 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from(REASONS[:3]),
            st.sampled_from([f"10.0.0.{n}" for n in range(9)]),
            st.floats(0, 2),
        ),
        max_size=300,
    )
)
def test_lines_are_bounded_and_nothing_is_lost_from_the_counts(
    events: list[tuple[RefusalReason, str, float]],
) -> None:
    bench = Bench()
    for why, address, seconds in events:
        bench.now += seconds
        bench.refusals.note(why, address)
    assert bench.refusals.counts.total() == len(events)  # type: ignore[attr-defined]
    # A window begins with the first refusal behind the end of the one before, so this many fit at most.
    windows = int(bench.now / WINDOW_SECONDS) + 1
    lines = bench.lines
    for why in {why for why, _, _ in events}:
        of_reason = [line for line in lines if line["why"] == why]
        assert 1 <= len(of_reason) <= LINES_PER_REASON * windows
        for address in {line["address"] for line in of_reason}:
            assert sum(line["address"] == address for line in of_reason) <= LINES_PER_ADDRESS * windows


def test_a_flood_of_one_address_hides_no_other_and_is_told_later() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.refusals.note(RefusalReason.BAD_HEAD, "10.0.0.1")
    bench.refusals.note(RefusalReason.BAD_HEAD, "10.0.0.2")
    bench.refusals.note(RefusalReason.TOKEN_EXPIRED, "10.0.0.1")
    told = [(line["why"], line["address"], line.get("not_logged", 0)) for line in bench.lines]
    assert told == [
        *[("bad_head", "10.0.0.1", 0)] * LINES_PER_ADDRESS,
        ("bad_head", "10.0.0.2", 1000 - LINES_PER_ADDRESS),
        ("token_expired", "10.0.0.1", 0),
    ]


def test_failures_are_logged_as_often_as_a_reason_and_counted_as_none() -> None:
    bench = Bench()
    for number in range(100):
        bench.refusals.log_failure("connection failed", f"10.0.0.{number % 2}", ValueError("a fault"))
    bench.now += WINDOW_SECONDS
    bench.refusals.log_failure("connection failed", None, ValueError("a fault"), room="lobby")
    assert bench.refusals.counts == {}
    *told, last = bench.lines
    assert len(told) == 2 * LINES_PER_ADDRESS
    assert {(line["event"], line["level"]) for line in told} == {("connection failed", "error")}
    assert "a fault" in str(last)
    assert (last["address"], last["room"], last["not_logged"]) == (None, "lobby", 100 - len(told))


def test_addresses_of_a_flood_are_not_remembered() -> None:
    bench = Bench()
    for n in range(100_000):
        bench.refusals.note(RefusalReason.BAD_HEAD, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(bench.refusals._lines) <= LINES_PER_REASON + 1
    assert len(bench.lines) == LINES_PER_REASON


def test_an_ipv6_subscriber_is_one_address() -> None:
    bench = Bench()
    for n in range(100):
        bench.refusals.note(RefusalReason.BAD_HEAD, f"2001:db8:0:1::{n:x}")
    bench.refusals.note(RefusalReason.BAD_HEAD, "2001:db8:0:2::1")
    bench.refusals.note(RefusalReason.BAD_HEAD, "fe80::1%eth0")
    assert len(bench.lines) == LINES_PER_ADDRESS + 2


def test_the_number_of_omitted_log_lines_is_in_the_next_line_of_the_reason() -> None:
    bench = Bench()
    for _ in range(LINES_PER_ADDRESS + 7):
        bench.refusals.note(RefusalReason.ORIGIN, "10.0.0.1")
    bench.now += WINDOW_SECONDS
    bench.refusals.note(RefusalReason.ORIGIN, "10.0.0.1")
    bench.refusals.note(RefusalReason.ORIGIN, "10.0.0.1")
    assert [line.get("not_logged") for line in bench.lines[-2:]] == [7, None]


@given(st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40), st.sampled_from(list(CloseCode))))
def test_close_codes_of_peers_make_no_new_labels_without_bound(code: int | None) -> None:
    bench = Bench()
    bench.refusals.count_close(code)
    [(label, count)] = bench.refusals.closes.items()
    assert count == 1
    assert label == ("1006" if code is None else str(int(code))) or label == "other"
    assert label == "other" or 1000 <= int(label) < 1015 or int(label) in set(CloseCode)


@pytest.mark.parametrize("code", list(CloseCode))
def test_ends_that_are_refusals_are_told_and_ordinary_ones_are_not(code: CloseCode) -> None:
    bench = Bench()
    bench.refusals.note_ending(Disconnect(code, "reason"), "10.0.0.1", user_id="ann")
    ordinary = {
        CloseCode.NORMAL,
        CloseCode.GOING_AWAY,
        CloseCode.INTERNAL_ERROR,
        CloseCode.SERVICE_RESTART,
        CloseCode.REMOVED,
    }
    assert [line["code"] for line in bench.lines] == ([] if code in ordinary else [code])


def test_the_reference_lists_every_reason() -> None:
    reference = (Path(__file__).parents[1] / "docs" / "reference.md").read_text()
    listed = reference.partition("### Refusals")[2].partition("\n## ")[0]
    assert [reason.value for reason in REASONS if f"`{reason.value}`" not in listed] == []
