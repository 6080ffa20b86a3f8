"""The names that a program may import from `broker`."""

import subprocess
import sys

import pytest

import broker


def test_every_public_name_is_there() -> None:
    assert sorted(broker._PLACES) == broker.__all__
    for name in broker.__all__:
        assert getattr(broker, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'publisher'"):
        _ = broker.publisher


@pytest.mark.parametrize(
    ("name", "absent"),
    [("Publisher", "trio quart hypercorn hiredis"), ("connect", "quart hypercorn hiredis")],
)
def test_a_name_brings_only_what_it_needs(name: str, absent: str) -> None:
    program = (
        f"import sys; from broker import {name}; print([m for m in {absent.split()} if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
