"""The permissions of tokens in rooms."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.permissions import RoomPolicy, find_rule
from broker.config.settings import AuthSettings, RoomRule, Settings
from broker.errors import ErrorCode, Refused
from broker.model import Capability, Claims

Access = Literal["any", "token", "none"]

OPEN = RoomPolicy.from_settings(Settings())


def policy(*rules: tuple[str, Access]) -> RoomPolicy:
    return RoomPolicy.from_settings(
        Settings(rooms=tuple(RoomRule(pattern=pattern, access=access) for pattern, access in rules))
    )


def refusal(policy: RoomPolicy, claims: Claims, room: str, capability: Capability = Capability.JOIN) -> str:
    with pytest.raises(Refused) as caught:
        policy.check(claims, room, capability)
    assert caught.value.code is ErrorCode.FORBIDDEN
    return caught.value.message


def test_without_rules_every_user_may_do_everything_in_every_room() -> None:
    for capability in Capability:
        OPEN.check(Claims("ada"), "lobby", capability)


def test_a_capability_must_be_in_the_token() -> None:
    claims = Claims("ada", can=frozenset({Capability.JOIN}))
    OPEN.check(claims, "lobby", Capability.JOIN)
    assert "does not allow chat" in refusal(OPEN, claims, "lobby", Capability.CHAT)


def test_a_token_with_rooms_is_held_to_them() -> None:
    claims = Claims("ada", rooms=("lobby", "team.*"))
    OPEN.check(claims, "lobby", Capability.JOIN)
    OPEN.check(claims, "team.red", Capability.JOIN)
    assert "claim rooms" in refusal(OPEN, claims, "hall")


def test_a_token_with_an_empty_list_of_rooms_joins_none() -> None:
    assert "claim rooms" in refusal(OPEN, Claims("ada", rooms=()), "lobby")


def test_a_private_room_is_for_its_user() -> None:
    OPEN.check(Claims("ada"), "user_ada", Capability.CHAT)
    assert "user_{id}" in refusal(OPEN, Claims("bob"), "user_ada")


@pytest.mark.parametrize("room", ["user_", "user_ADA", "user_ada2", "user_ad", "user_*"])
def test_only_the_exact_private_room_is_the_users_own(room: str) -> None:
    assert "user_{id}" in refusal(OPEN, Claims("ada", rooms=("*", "user_*")), room)


@pytest.mark.parametrize("access", ["any", "token"])
def test_neither_patterns_nor_rules_open_anothers_private_room(access: Access) -> None:
    rules = policy(("user_*", access), ("*", "any"))
    assert "user_{id}" in refusal(rules, Claims("bob", rooms=("*", "user_ada")), "user_ada")


def test_the_users_own_room_still_needs_to_be_among_the_tokens_rooms() -> None:
    assert "claim rooms" in refusal(OPEN, Claims("ada", rooms=("lobby",)), "user_ada")
    OPEN.check(Claims("ada", rooms=("user_*",)), "user_ada", Capability.JOIN)


def test_private_rooms_can_be_switched_off() -> None:
    off = RoomPolicy.from_settings(Settings(auth=AuthSettings(private_user_rooms=False)))
    off.check(Claims("bob"), "user_ada", Capability.JOIN)


def test_a_room_closed_by_rule_is_closed_to_every_token() -> None:
    rules = policy(("staff.*", "none"))
    assert "not open to clients" in refusal(rules, Claims("ada", rooms=("*",)), "staff.news")
    rules.check(Claims("ada"), "lobby", Capability.JOIN)


def test_a_room_for_tokens_needs_a_token_that_names_it() -> None:
    rules = policy(("team.*", "token"))
    rules.check(Claims("ada", rooms=("team.red",)), "team.red", Capability.JOIN)
    assert "needs a token" in refusal(rules, Claims("ada"), "team.red")
    assert "does not allow this room" in refusal(rules, Claims("ada", rooms=("team.blue",)), "team.red")


def test_the_first_rule_that_matches_wins() -> None:
    rules = policy(("team.open", "any"), ("team.*", "none"), ("*", "any"))
    rules.check(Claims("ada"), "team.open", Capability.JOIN)
    refusal(rules, Claims("ada"), "team.red")
    rules.check(Claims("ada"), "hall", Capability.JOIN)


def test_a_room_without_a_rule_has_none() -> None:
    rule = RoomRule(pattern="team.*", access="none")
    assert find_rule([rule], "lobby") is None
    assert find_rule([rule], "team.red") is rule


@given(
    user=st.text(min_size=1, max_size=20),
    owner=st.text(min_size=1, max_size=20),
    access=st.sampled_from(["any", "token", "none"]),
)
def test_no_user_ever_enters_anothers_private_room(user: str, owner: str, access: Access) -> None:
    rules = policy(("*", access))
    try:
        rules.check(Claims(user, rooms=("*",)), f"user_{owner}", Capability.JOIN)
    except Refused:
        return
    assert user == owner


def test_a_refusal_names_no_other_user_and_no_rule() -> None:
    rules = policy(("secret-project-*", "none"))
    messages = [
        refusal(rules, Claims("bob"), "user_ada"),
        refusal(rules, Claims("bob"), "secret-project-x"),
        refusal(rules, Claims("bob", rooms=("hidden",)), "lobby"),
    ]
    assert not any(word in m for m in messages for word in ("ada", "secret-project", "hidden"))
