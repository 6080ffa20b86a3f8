"""Room patterns: `*` is any run of characters, all else is literal, and no pattern is slow."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.config.patterns import matches

small_text = st.text(alphabet="ab*.\n", max_size=8)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("lobby", "lobby"),
        ("*", "anything at all"),
        ("*", ""),
        ("team.*", "team.red"),
        ("team.*", "team."),
        ("*.news", "local.news"),
        ("a*b*c", "a-b-b-c"),
        ("a**c", "ac"),
        ("Zürich-*", "Zürich-🎭"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("lobby", "lobby2"),
        ("lobby", "Lobby"),
        ("team.*", "teamXred"),
        ("team.*", "my team.red"),
        ("*.news", "news"),
        ("aba*aba", "aba"),
        ("a*a*a", "aa"),
        ("a*x*c", "abc"),
        ("*ab*ab*", "ab"),
        ("a?c", "abc"),
        ("[ab]", "a"),
        ("a.c", "abc"),
        ("lobby", "lobby\n"),
        ("", "a"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


@given(pattern=small_text, name=small_text)
@example(pattern="*ab*ab*", name="aabab")
def test_it_agrees_with_a_regular_expression(pattern: str, name: str) -> None:
    reference = "".join(".*" if c == "*" else re.escape(c) for c in pattern)
    assert matches(pattern, name) == (re.fullmatch(reference, name, re.DOTALL) is not None)


@given(pieces=st.lists(small_text.map(lambda text: text.replace("*", "")), min_size=1), filler=small_text)
def test_filling_the_stars_gives_a_name_that_matches(pieces: list[str], filler: str) -> None:
    assert matches("*".join(pieces), filler.join(pieces))


def test_a_hostile_pattern_costs_no_time() -> None:
    # With backtracking this would take longer than the universe is old.
    pattern, name = "a*" * 50 + "b", "a" * 128
    start = time.process_time()
    assert not any(matches(pattern, name) for _ in range(256))
    assert time.process_time() - start < 1
