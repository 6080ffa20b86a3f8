"""API keys: who presents which, and which calls each may make."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.api_keys import ApiKeys, Caller, Need
from broker.config.patterns import matches
from broker.config.scopes import EVERYTHING, Grant, Scope, read_grant
from broker.config.settings import ApiKeySettings, HttpSettings
from broker.errors import ConfigurationError, ErrorCode, RefusalReason, Refused

ROOMS = ["orders.1", "orders.", "lobby", "a*", "*"]
PATTERNS = ["*", "orders.*", "*s.1", "lobby", "a**"]
GRANTS = st.lists(st.builds(Grant, st.sampled_from(Scope), st.sampled_from(PATTERNS)), max_size=4)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


def may(caller, need, room):
    refusal = None
    try:
        need.check(caller, room)
    except Refused as refused:
        refusal = refused
    if refusal is None:
        return True
    assert (refusal.code, refusal.why) == (ErrorCode.FORBIDDEN, RefusalReason.API_KEY_SCOPE)
    assert caller.name in refusal.message
    assert need.scope in refusal.message
    return False


@given(GRANTS, st.sampled_from(Scope), st.sampled_from(ROOMS))
def test_a_call_in_a_room_needs_a_grant_whose_pattern_matches_it(grants, scope, room):
    caller = Caller("shop", tuple(grants))
    allowed = any(grant.scope is scope and matches(grant.pattern, room) for grant in grants)
    assert may(caller, Need(scope), room) is allowed


@given(GRANTS, st.sampled_from(Scope))
def test_a_call_in_no_single_room_needs_all_rooms_or_checks_each(grants, scope):
    caller = Caller("shop", tuple(grants))
    own = [grant for grant in grants if grant.scope is scope]
    assert may(caller, Need(scope), None) is any(grant.pattern == "*" for grant in own)
    assert may(caller, Need(scope, in_each_room=True), None) is bool(own)


KEYS = st.lists(WORDS, min_size=1, max_size=5, unique=True)


@given(KEYS, st.text(max_size=5) | WORDS, st.data())
def test_each_key_is_its_own_and_nothing_else_is_a_key(secrets, other, data):
    entries = tuple(
        ApiKeySettings(name=f"k{index}", key=secret, scopes=("read",)) for index, secret in enumerate(secrets)
    )
    keys = ApiKeys.from_settings(HttpSettings(api_keys=entries))
    index = data.draw(st.integers(0, len(secrets) - 1))
    found = keys.identify(f"Bearer {secrets[index]}")
    assert found is not None
    assert (found.name, found.grants) == (f"k{index}", (Grant(Scope.READ),))
    other_found = keys.identify(f"Bearer {other}")
    assert (other_found is not None) is (other.strip() in secrets)
    assert keys.identify(None) is None
    assert keys.identify(f"Basic {secrets[index]}") is None


def test_two_keys_of_one_name_are_accepted_while_it_is_replaced():
    entry = ApiKeySettings(name="shop", key="new", previous_key="old", scopes=("publish:orders.*",))
    keys = ApiKeys.from_settings(
        HttpSettings(api_key="all", previous_api_key="all-before", api_keys=(entry,))
    )
    assert "all-before" not in repr(keys)
    by_key = {word: keys.identify(f"Bearer {word}") for word in ("new", "old", "all", "all-before")}
    assert by_key["new"] == by_key["old"] == Caller("shop", (Grant(Scope.PUBLISH, "orders.*"),))
    assert [caller.uses_previous for caller in by_key.values()] == [False, True, False, True]
    assert by_key["all"] == by_key["all-before"] == Caller("http.api_key", EVERYTHING)
    # Only a name that somebody chose is worth a place in the log.
    assert (by_key["new"].log_fields, by_key["all"].log_fields) == ({"key_name": "shop"}, {})

    keys.replace(HttpSettings(api_key="all", api_keys=(msgspec.structs.replace(entry, previous_key=None),)))
    assert [keys.identify(f"Bearer {word}") is not None for word in by_key] == [True, False, True, False]


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer None"])
def test_a_server_without_a_key_lets_nobody_in(key, header):
    entry = ApiKeySettings(name="shop", key=key, scopes=("read",))
    assert ApiKeys.from_settings(HttpSettings(api_key=key, api_keys=(entry,))).identify(header) is None


@pytest.mark.parametrize("word", ["a b", "schlüssel", "a\n", "\ud800"])
def test_a_key_that_no_header_can_hold_is_refused(word):
    keys = ApiKeys.from_settings(HttpSettings(api_key="good"))
    entry = ApiKeySettings(name="shop", key=word, scopes=("read",))
    for settings in (HttpSettings(api_key=word), HttpSettings(api_keys=(entry,))):
        with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
            keys.replace(settings)
        assert word not in str(caught.value)
    assert keys.identify("Bearer good") is not None


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("publish", Grant(Scope.PUBLISH)),
        ("read", Grant(Scope.READ)),
        ("admin", Grant(Scope.ADMIN)),
        ("publish:orders.*", Grant(Scope.PUBLISH, "orders.*")),
        ("read:a:b", Grant(Scope.READ, "a:b")),
        ("publish:*", Grant(Scope.PUBLISH)),
    ],
)
def test_a_scope_is_read(text, grant):
    assert read_grant(text) == grant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("write", "is none of publish, read, admin"),
        ("Publish", "is none of"),
        ("publish orders", "is none of"),
        ("", "is none of"),
        ("admin:*", "only publish and read take"),
        ("publish:", "empty pattern"),
        ("publish:a/b", "holds '/'"),
        ("read:..", "'.' or '..'"),
        ("read:a\n", "control character"),
    ],
)
def test_what_is_no_scope_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        read_grant(text)
