"""The guard against slower code: when it passes, when it fails, and that its script does what it counts."""

import msgspec
import pytest
import trio.testing

from bench.instructions.count import surroundings
from bench.instructions.judge import (
    FOREIGN_TOLERANCE,
    Figures,
    Verdict,
    compare,
    tolerance_of,
    why_not_comparable,
)
from bench.instructions.node import open_node
from bench.instructions.script import memory_pair, play, post, socket_pair, speak
from bench.instructions.stages import Stages

HERE = surroundings()
FIGURES = Figures(HERE, {"joins": 1000})


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(970, Verdict.SAME), (1030, Verdict.SAME), (1031, Verdict.MORE), (969, Verdict.FEWER)],
)
def test_a_stage_is_the_same_within_the_tolerance(now: int, verdict: Verdict) -> None:
    [stage] = compare({"joins": 1000}, {"joins": now}, 0.03)
    assert stage.verdict is verdict


def test_a_stage_that_is_new_or_gone_is_told() -> None:
    stages = list(compare({"joins": 1}, {"leaves": 1}, 0.03))
    assert [stage.name for stage in stages] == ["joins", "leaves"]
    assert {stage.verdict for stage in stages} == {Verdict.CHANGED}


def test_only_the_same_build_of_python_is_compared() -> None:
    assert why_not_comparable(FIGURES, HERE) is None
    assert why_not_comparable(None, HERE) is not None
    assert why_not_comparable(FIGURES, msgspec.structs.replace(HERE, build="another")) is not None
    assert why_not_comparable(FIGURES, msgspec.structs.replace(HERE, python="3.0.0")) is not None


def test_other_packages_are_forgiven_more() -> None:
    other = msgspec.structs.replace(HERE, packages=HERE.packages | {"trio": "0"})
    assert tolerance_of(FIGURES, HERE, 0.03) == 0.03
    assert tolerance_of(FIGURES, other, 0.03) == FOREIGN_TOLERANCE


@pytest.mark.parametrize("make_pair", [memory_pair, socket_pair])
async def test_the_script_is_heard_by_everyone(make_pair: object, mock_clock: trio.testing.MockClock) -> None:
    # It raises where a member has not heard every chat, and moves the clock itself.
    async with open_node() as node:
        await play(node, make_pair, Stages(None), "test")  # type: ignore[arg-type]
        await post(node, make_pair, Stages(None), "test")  # type: ignore[arg-type]
        await speak(node, Stages(None), "test")
