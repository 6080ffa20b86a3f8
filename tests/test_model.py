"""Which names a room may have."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ErrorCode, Refused
from broker.model import ALL_CAPABILITIES, Claims, check_room_name


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
def test_a_name_that_cannot_be_is_refused_with_what_can(name: str) -> None:
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
    assert claims.can == ALL_CAPABILITIES == {"join", "chat", "publish", "presence", "history"}
    assert (claims.rooms, claims.expires_at) == (None, None)
