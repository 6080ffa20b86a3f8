"""Admission against plain counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.transport.admission import Admission, Verdict

ADDRESSES = ["10.0.0.1", "10.0.0.2", "::1"]


@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.integers(0, 30), max_size=60))
def test_every_connection_counts_until_it_leaves(per_node: int, per_address: int, choices: list[int]) -> None:
    admission = Admission(per_node, per_address)
    open_connections: list[str] = []
    for choice in choices:
        if choice % 2 and open_connections:
            admission.leave(open_connections.pop(choice % len(open_connections)))
        else:
            address = ADDRESSES[choice % 3]
            open_connections.append(address)
            expected = Verdict.WELCOME
            if open_connections.count(address) > per_address:
                expected = Verdict.ADDRESS_FULL
            if len(open_connections) > per_node:
                expected = Verdict.NODE_FULL
            assert admission.enter(address) is expected
        assert len(admission) == len(open_connections)
    for address in open_connections:
        admission.leave(address)
    assert len(admission) == 0
    for address in ADDRESSES:
        assert admission.enter(address) is (
            Verdict.WELCOME if len(admission) <= per_node else Verdict.NODE_FULL
        )


def test_an_address_that_left_is_forgotten() -> None:
    admission = Admission(10, 10)
    admission.enter("10.0.0.1")
    admission.leave("10.0.0.1")
    # One that leaves without having entered is a mistake of ours, and shows.
    with pytest.raises(KeyError):
        admission.leave("10.0.0.1")
