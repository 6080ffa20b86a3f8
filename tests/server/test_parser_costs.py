"""Input before authentication costs time in proportion to its size, with any content.

Counted in instructions, because expressions of `re` run in C and are where going back over the same text hides; the
same on a busy machine as on an idle one.
"""

import pytest

from bench.instructions.count import count, missing

MOST_PER_DOUBLING = 2.3
STEPS = 3_000_000
"""Instructions that do not go by the size: a larger allocation is made in another way. Less than a millisecond."""
TIMEOUT_SECONDS = 1200.0


@pytest.mark.skipif(missing() is not None, reason=f"there is no {missing()}")
def test_twice_the_size_costs_twice_as_much() -> None:
    """`parser_costs.py` holds the places and what may repeat there."""
    counts = count("tests.server.parser_costs", timeout_seconds=TIMEOUT_SECONDS)
    costs = {
        stage.removesuffix(":whole"): whole for stage, whole in counts.items() if stage.endswith(":whole")
    }
    assert len(costs) * 2 == len(counts)
    assert len(costs) > 40
    growth = {name: whole / (counts[f"{name}:half"] + STEPS) for name, whole in costs.items()}
    assert {name: by for name, by in growth.items() if by > MOST_PER_DOUBLING} == {}
