"""Durations as people write them."""

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.durations import Duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600),
        ("0.5", 0.5),
        (".5", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("1H", 3600),
        (" 1h 30m ", 5400),
        ("1h30m15s", 5415),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1s500ms", 1.5),
    ],
)
def test_a_duration_has_units_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "1x",
        "1h30",
        "30m1h",
        "1h1h",
        "-1h",
        "+5",
        "1,5h",
        "1 2",
        "nan",
        "inf",
        "1mo",
        "\u0661h",
        "1h\n2",
    ],
)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.text(max_size=12) | st.from_regex(r"[0-9.hmsd ]{1,9}", fullmatch=True))
def test_any_text_is_a_duration_or_none(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ttl", "1h"], "3600.0"),
        ([], "60.0"),
        (["--ttl", "0"], "must be above 0"),
        (["--ttl", "0h"], "must be above 0"),
        (["--ttl", "9e999"], "must be above 0"),
        (["--ttl", "soon"], "'soon' is no duration: seconds, or numbers with units"),
        (["--interval", "50ms"], "must be at least 0.1 s"),
    ],
)
def test_an_option_takes_it(arguments: list[str], told: str) -> None:
    @click.command()
    @click.option("--ttl", type=Duration(), default=60)
    @click.option("--interval", type=Duration(least_seconds=0.1), default=1.0)
    def command(ttl: float, interval: float) -> None:
        click.echo(ttl)

    assert told in CliRunner().invoke(command, arguments).output
