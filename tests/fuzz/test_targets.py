"""The seeds of all targets, without atheris: those that once failed among them."""

import random
from pathlib import Path

import pytest

from tests.fuzz.pieces import in_pieces
from tests.fuzz.table import NAMES, load


def test_each_target_is_in_the_table() -> None:
    files = {path.stem for path in Path(__file__).with_name("targets").glob("*.py")}
    assert files == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
async def test_seeds_and_their_neighbours(name: str) -> None:
    target = load(name)
    source = random.Random(name)
    for seed in target.SEEDS:
        target.check(seed)
        for _ in range(20):
            at = source.randrange(len(seed) + 1)
            put = bytes([source.randrange(256)]) if source.random() < 0.7 else source.choice(target.SEEDS)[:9]
            target.check(seed[:at] + put + seed[at + source.randrange(3) :])


@pytest.mark.parametrize("data", [b"", b"a", b"abc", bytes(range(256)) * 2])
def test_pieces_are_all_of_the_data(data: bytes) -> None:
    for pieces in in_pieces(data):
        assert b"".join(pieces) == data
        assert all(pieces)
