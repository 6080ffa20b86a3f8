"""Admission against plain counting."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model import network_of
from broker.sessions.rate import TokenBucket
from broker.transport.admission import (
    MOST_REFUSED,
    MOST_REFUSED_PER_ADDRESS,
    Admission,
    Verdict,
)

ADDRESSES = ["10.0.0.1", "10.0.0.2", "::1"]


@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.integers(0, 30), max_size=120))
def test_every_connection_counts_until_it_leaves(per_node: int, per_address: int, choices: list[int]) -> None:
    admission = Admission(per_node, per_address)
    connections: list[tuple[str, Verdict]] = []
    for choice in choices:
        if choice % 4 == 3 and connections:
            admission.leave(*connections.pop(choice % len(connections)))
        else:
            address = ADDRESSES[choice % 3]
            verdict = admission.enter(address)
            assert verdict is expected_verdict(connections, address, per_node, per_address)
            connections.append((address, verdict))
        assert len(admission) == sum(verdict is not Verdict.SURPLUS for _, verdict in connections)
    for address, verdict in connections:
        admission.leave(address, verdict)
    assert len(admission) == 0
    assert admission.enter("10.0.0.1") is Verdict.ADMITTED


def expected_verdict(
    connections: list[tuple[str, Verdict]], address: str, per_node: int, per_address: int
) -> Verdict:
    welcome = [where for where, verdict in connections if verdict is Verdict.ADMITTED]
    refused = Counter(
        where for where, verdict in connections if verdict in {Verdict.ADDRESS_FULL, Verdict.NODE_FULL}
    )
    if len(welcome) < per_node and welcome.count(address) < per_address:
        return Verdict.ADMITTED
    if refused[address] == MOST_REFUSED_PER_ADDRESS:
        return Verdict.SURPLUS
    return Verdict.NODE_FULL if len(welcome) == per_node else Verdict.ADDRESS_FULL


def test_one_address_takes_no_place_that_is_not_its_own() -> None:
    per_node, per_address = 100, 3
    admission = Admission(per_node, per_address)
    verdicts = Counter(admission.enter("10.0.0.1") for _ in range(10_000))
    assert verdicts[Verdict.ADMITTED] == per_address
    assert verdicts[Verdict.ADDRESS_FULL] == MOST_REFUSED_PER_ADDRESS
    for other in range(per_node - per_address):
        assert admission.enter(f"10.1.0.{other}") is Verdict.ADMITTED


@given(st.floats(0.1, 100), st.integers(1, 5), st.lists(st.floats(0, 3), max_size=40))
def test_connections_come_no_faster_than_the_node_accepts_them(
    rate: float, burst: int, pauses: list[float]
) -> None:
    admission, bucket = Admission(1000, 1000, TokenBucket(rate, burst, 0.0)), TokenBucket(rate, burst, 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        is_too_fast = bucket.take(now) > 0
        verdict = admission.enter("10.0.0.1", now)
        assert verdict is (Verdict.TOO_FAST if is_too_fast else Verdict.ADMITTED)
        # The ones that were refused are gone, so that there is room for others.
        if is_too_fast:
            admission.leave("10.0.0.1", verdict)


def test_the_refused_are_never_more_than_their_limit() -> None:
    admission = Admission(1, 1)
    admission.enter("10.0.0.1")
    verdicts = Counter(admission.enter(f"10.1.{n // 256}.{n % 256}") for n in range(1000))
    assert verdicts == {Verdict.NODE_FULL: MOST_REFUSED, Verdict.SURPLUS: 1000 - MOST_REFUSED}


@pytest.mark.parametrize("more", [1, MOST_REFUSED_PER_ADDRESS])
def test_an_address_that_left_is_forgotten(more: int) -> None:
    admission = Admission(10, 1)
    verdicts = [admission.enter("10.0.0.1") for _ in range(1 + more)]
    for verdict in verdicts:
        admission.leave("10.0.0.1", verdict)
    # One that leaves without having entered is a mistake of ours, and shows.
    for verdict in set(verdicts):
        with pytest.raises(KeyError):
            admission.leave("10.0.0.1", verdict)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("64:ff9b::10.0.0.1", "10.0.0.1", True),
        ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::1", "127.0.0.1", False),
        ("@abstract", "", False),
    ],
)
def test_an_ipv6_address_is_its_64(one: str, other: str, is_same: bool) -> None:
    assert (network_of(one) == network_of(other)) is is_same
    admission = Admission(10, 1)
    admission.enter(one)
    assert admission.enter(other) is (Verdict.ADDRESS_FULL if is_same else Verdict.ADMITTED)
