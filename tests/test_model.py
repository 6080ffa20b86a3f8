"""Names of rooms, offsets in text, and the expiry of claims."""

import unicodedata
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ErrorCode, Refused
from broker.model import ALL_CAPABILITIES, Claims, Excluded, check_room_name, parse_offset


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "lobby",
        "user_7",
        "x" * 128,
        "user_" + "x" * 128,
        "\U0001f3ad" * 128,
        "team.42:en-GB",
        "Räume & Säle",
        " ",
        "...",
        ".a",
        "%2F",
        "*",
        "\u200b",
        "\xa0",
    ],
)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert check_room_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 129,
        "user_" + "x" * 129,
        "User_" + "x" * 124,
        "a/b",
        "/",
        ".",
        "..",
        "a\nb",
        "a\0",
        "\x1f",
        "\x7f",
        "\x80",
        "\x85",
        "\x9f",
        "a\ud800",
        "\udfff",
    ],
)
def test_an_invalid_room_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_room_name(name)
    assert caught.value.code is ErrorCode.INVALID_MESSAGE
    assert (
        str(caught.value)
        == "invalid_message: room: 1 to 128 characters, none of them a control character or '/'; not '.' or '..'"
    )


@given(st.text(alphabet=st.characters(), max_size=140) | st.text(alphabet="ab./\x00\x9f\ud800", max_size=5))
def test_a_name_is_good_when_it_is_short_readable_and_has_no_control_character(name: str) -> None:
    # Cc: control characters; Cs: surrogates, which UTF-8 cannot hold.
    is_good = (
        1 <= len(name) <= 128
        and name not in {".", ".."}
        and not any(c == "/" or unicodedata.category(c) in {"Cc", "Cs"} for c in name)
    )
    try:
        is_taken = check_room_name(name) == name
    except Refused:
        is_taken = False
    assert is_taken == is_good


def test_claims_without_more_allow_everything_the_rules_allow() -> None:
    claims = Claims("ann")
    assert claims.can == ALL_CAPABILITIES == {"join", "chat", "publish", "presence", "history", "call"}
    assert (claims.rooms, claims.expires_at) == (None, None)


@given(st.integers(0, 10**18 - 1))
def test_an_offset_is_read_back(offset: int) -> None:
    assert parse_offset(str(offset)) == offset


@given(st.text().filter(lambda text: not (text.isascii() and text.isdigit()) or len(text) > 18))
def test_other_texts_are_no_offsets(text: str) -> None:
    assert parse_offset(text) is None


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1_0", "1.0", "\u0661", "\xb2", "9" * 19])
def test_almost_an_offset_is_none(text: str) -> None:
    assert parse_offset(text) is None


@given(st.integers(0, 2**40), st.integers(0, 1000))
def test_claims_expire_once_the_leeway_is_over(expires_at: int, leeway_seconds: int) -> None:
    claims = Claims("ann", expires_at=expires_at)
    assert not claims.has_expired(expires_at + leeway_seconds - 1, leeway_seconds)
    assert claims.has_expired(expires_at + leeway_seconds, leeway_seconds)
    assert not Claims("ann").has_expired(2.0**60, leeway_seconds)


class EarlierExcluded(msgspec.Struct, frozen=True, array_like=True):
    """As versions before several could be excluded read and wrote it."""

    connection: str | None = None
    user_id: str | None = None


@pytest.mark.parametrize("package", [msgspec.json, msgspec.msgpack])
def test_exclusions_are_stored_so_that_each_version_reads_them(package: ModuleType) -> None:
    for connections, users, earlier in [
        (["c1"], [], EarlierExcluded("c1")),
        ([], ["ann"], EarlierExcluded(None, "ann")),
        (["c1"], ["ann"], EarlierExcluded("c1", "ann")),
        (["c1", "c2"], ["ann"], EarlierExcluded(None, "ann")),
        (["c1", "c2"], ["ann", "ben"], EarlierExcluded()),
    ]:
        excluded = Excluded.of(connections, users)
        assert excluded is not None
        stored = package.encode(excluded)
        assert package.decode(stored, type=Excluded) == excluded
        assert package.decode(stored, type=EarlierExcluded) == earlier
        read = package.decode(package.encode(earlier), type=Excluded)
        assert read == Excluded(earlier.connection, earlier.user_id)
        for user in ("ann", "ben", "cat"):
            for connection in ("c1", "c2", "c3"):
                assert excluded.matches(user, connection) == (connection in connections or user in users)
    assert Excluded.of([], []) is None
