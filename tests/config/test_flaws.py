"""Values that copying, quoting and templates leave wrong are refused, and never shown."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.auth.keys import load_keys
from broker.auth.permissions import find_rule
from broker.config.check import check_settings, find_flaws
from broker.config.flaws import MAY_BE_EMPTY
from broker.config.keys import read_schema
from broker.config.load import load_settings
from broker.config.patterns import matches
from broker.config.settings import AuthSettings, HttpSettings, RoomRule, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import SECRET

TEXT_KEYS = [
    key.dotted
    for key in read_schema(Settings).plain_keys()
    if key.dotted.partition(".")[0] != "log" and "text" in key.allowed
]
WORD = SECRET

FLAWS: dict[str, Callable[[str], str]] = {
    "line end": lambda word: f"{word}\n",
    "Windows line end": lambda word: f"{word}\r\n",
    "two line ends": lambda word: f"{word}\n\n",
    "line end before": lambda word: f"\n{word}",
    "blank behind": lambda word: f"{word} ",
    "blank before": lambda word: f" {word}",
    "no-break space": lambda word: f"{word}\N{NO-BREAK SPACE}",
    "tab": lambda word: f"{word}\t",
    "NUL": lambda word: f"{word}\0",
    "byte order mark": lambda word: f"\N{ZERO WIDTH NO-BREAK SPACE}{word}",
    "double quotes": lambda word: f'"{word}"',
    "single quotes": lambda word: f"'{word}'",
    "typographic quotes": lambda word: f"\N{LEFT DOUBLE QUOTATION MARK}{word}\N{RIGHT DOUBLE QUOTATION MARK}",
    "variable of a shell": lambda word: f"${{{word}}}",
    "variable of Kubernetes": lambda word: f"$({word})",
    "template": lambda word: f"{{{{ .Values.{word} }}}}",
    "placeholder": lambda word: f"<{word}>",
    "quotes and line end": lambda word: f'"{word}"\n',
    "line end within": lambda word: f"{word}\n{word}",
    "escape": lambda word: f"{word}\x1b[0m",
    "no UTF-8": lambda word: f"{word}\udcff",
}


def with_value(dotted: str, value: object) -> Settings:
    section, name = dotted.split(".")
    settings = Settings(auth=AuthSettings(secret=WORD), http=HttpSettings(api_key=WORD[::-1]))
    before = getattr(settings, section)
    old = getattr(before, name)
    changed = msgspec.structs.replace(before, **{name: (value,) if isinstance(old, tuple) else value})
    return msgspec.structs.replace(settings, **{section: changed})


def test_all_texts_are_among_the_keys() -> None:
    assert {"auth.secret", "http.api_key", "auth.audience", "server.engine", "redis.ca_file"} < set(TEXT_KEYS)


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("dotted", TEXT_KEYS)
def test_a_value_nobody_can_mean_is_refused_and_not_shown(dotted: str, flaw: str) -> None:
    settings = with_value(dotted, FLAWS[flaw](WORD))
    problems = list(find_flaws(settings, origins={dotted: "GREENROOM_X"}))
    assert [problem.place for problem in problems] == [f"GREENROOM_X: {dotted}"]
    assert WORD not in str(problems)
    for dev in (False, True):
        of_key = [
            problem
            for problem in check_settings(settings, dev=dev, engine_schemes={"memory"})
            if dotted in problem.place
        ]
        assert of_key


@pytest.mark.parametrize("dotted", TEXT_KEYS)
def test_an_empty_value_is_refused_unless_it_is_as_good_as_none(dotted: str) -> None:
    flaws = list(find_flaws(with_value(dotted, "")))
    assert bool(flaws) is (dotted not in MAY_BE_EMPTY)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1))
def test_what_can_be_meant_is_taken(text: str) -> None:
    assume(text[0] not in "$<{\N{LEFT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}")
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`"
    assert bool(list(find_flaws(with_value("auth.audience", text)))) is is_quoted
    assert not list(find_flaws(with_value("auth.audience", f"a {text} b")))


@pytest.mark.parametrize("key", ["api key of two words", "schlüssel-der-länger-ist"])
@pytest.mark.parametrize("name", ["api_key", "metrics_key"])
@pytest.mark.parametrize("dev", [False, True])
def test_a_key_that_no_header_can_hold_is_refused(name: str, key: str, dev: bool) -> None:
    settings = with_value(f"http.{name}", key)
    [problem] = check_settings(settings, dev=dev, engine_schemes={"memory"})
    assert str(problem) == f"http.{name}: printable ASCII without blanks, as it travels in a header"


@pytest.mark.parametrize(
    "pattern", ["team.*\n", "a\tb", "\0", "a\x85", "\x7f*", "a/b", "/*", "*/", ".", "..", "\udcff"]
)
def test_a_pattern_that_no_name_can_match_is_refused(pattern: str) -> None:
    rules = (RoomRule(pattern="a*"), RoomRule(pattern=pattern))
    [problem] = find_flaws(Settings(rooms=rules), origins={"rooms[1].pattern": "a.toml:3"})
    assert problem.place == "a.toml:3: rooms[1].pattern"


PATTERNS = st.text("ab*", min_size=1, max_size=6)
NAMES = [name for size in range(1, 7) for name in map("".join, product("ab", repeat=size))]


@given(st.lists(PATTERNS, min_size=1, max_size=4))
def test_a_rule_that_an_earlier_one_hides_is_refused(patterns: list[str]) -> None:
    rules = tuple(RoomRule(pattern=pattern) for pattern in patterns)
    hidden = {problem.place for problem in find_flaws(Settings(rooms=rules))}
    for index, rule in enumerate(rules):
        earlier = rules[:index]
        by_one = any(
            all(matches(one.pattern, name) for name in NAMES if matches(rule.pattern, name))
            for one in earlier
        )
        if f"rooms[{index}].pattern" in hidden:
            assert by_one
            assert find_rule(rules, rule.pattern.replace("*", "ab")) is not rule
        elif by_one:
            # Short names alone do not show it: a longer one is for this rule.
            assert find_rule(rules, rule.pattern.replace("*", "c")) is rule


HOSTS: dict[str, bool] = {
    "127.0.0.1": True,
    "::": True,
    "[::1]": True,
    "::ffff:127.0.0.1": True,
    "fe80::1%eth0": True,
    "localhost": True,
    "rooms.example": True,
    "a_b": True,
    "http://localhost": False,
    "https://localhost:8000/": False,
    "localhost:8000": False,
    "127.0.0.1:8000": False,
    "[::1]:8000": False,
    "user@localhost": False,
    "localhost/": False,
    "/run/greenroom.sock": False,
    "unix:/run/greenroom.sock": True,
    "unix:room.sock": True,
    "unix:": False,
    f"unix:/{'x' * 107}": False,
    "*": False,
    "*:8000": False,
    ":::": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_a_host_alone(host: str) -> None:
    problems = list(find_flaws(with_value("server.host", host), origins={"server.host": "--host"}))
    assert [problem.place for problem in problems] == ([] if HOSTS[host] else ["--host: server.host"])


PROXIES = {
    "10.0.0.7": True,
    "10.0.0.0/8": True,
    "fd00::/8": True,
    "::1": True,
    "unix": True,
    "10.0.0.7/8": False,
    "0.0.0.0/0": False,
    "::/0": False,
    "*": False,
    "localhost": False,
    "unix:/run/proxy.sock": False,
    "10.0.0": False,
    "10.0.0.7:80": False,
}


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_trusted_proxy_is_an_address_or_a_network(proxy: str) -> None:
    problems = list(find_flaws(with_value("server.trusted_proxies", proxy)))
    assert [problem.place for problem in problems] == ([] if PROXIES[proxy] else ["server.trusted_proxies"])


@pytest.mark.parametrize("pattern", [" a", "'a'", "<b>", "*", "...", ".*", "\N{ZERO WIDTH JOINER}"])
def test_a_pattern_may_be_as_names_may_be(pattern: str) -> None:
    assert not list(find_flaws(Settings(rooms=(RoomRule(pattern=pattern),))))


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_an_empty_list_in_the_environment_replaces_no_default(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"GREENROOM_WEBSOCKET__ALLOWED_ORIGINS: .* empty"):
        load_settings(file=None, environ={"GREENROOM_WEBSOCKET__ALLOWED_ORIGINS": text}, flags={})
    load_settings(file=None, environ={"GREENROOM_HTTP__CORS_ORIGINS": text}, flags={})


@pytest.mark.parametrize("name", ["public_key_file", "jwks_file"])
def test_a_file_without_an_end_is_no_key(name: str) -> None:
    settings = AuthSettings(algorithms=("RS256",), **{name: "/dev/zero"})
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        load_keys(settings)


def test_a_file_without_an_end_is_no_configuration() -> None:
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        load_settings(file=Path("/dev/zero"), environ={}, flags={})
