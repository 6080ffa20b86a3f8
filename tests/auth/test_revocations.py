"""Which tokens a revocation takes back, and which of them a node still remembers."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.claims import parse_claims
from broker.auth.revocations import Revocation, RevocationKind, RevocationTable
from broker.auth.tokens import open_verifier
from broker.config.settings import AuthSettings
from broker.errors import Disconnect, RefusalReason
from broker.model import Claims
from tests.auth.test_tokens import NOW, signed
from tests.support.secrets import SECRET

TOKEN, USER, ISSUED = RevocationKind


@pytest.mark.parametrize(
    ("revocation", "claims", "is_meant"),
    [
        (Revocation(TOKEN, "a", NOW), Claims("ann", token_id="a"), True),
        (Revocation(TOKEN, "a", NOW), Claims("ann", token_id="b"), False),
        (Revocation(TOKEN, "ann", NOW), Claims("ann"), False),
        (Revocation(USER, "ann", NOW), Claims("ann", token_id="a", issued_at=NOW * 2), True),
        (Revocation(USER, "ann", NOW), Claims("bob", token_id="ann"), False),
        (Revocation(ISSUED, "ann", NOW, 100.0), Claims("ann", issued_at=99.9), True),
        (Revocation(ISSUED, "ann", NOW, 100.0), Claims("ann", issued_at=100.0), False),
        (Revocation(ISSUED, "ann", NOW, 100.0), Claims("ann"), True),
        (Revocation(ISSUED, "ann", NOW, 100.0), Claims("bob"), False),
    ],
)
def test_a_revocation_means_these_tokens(revocation, claims, is_meant):
    assert revocation.means(claims) is is_meant
    table = RevocationTable(lambda: 0.0)
    table.add(revocation)
    assert table.revokes(claims) is is_meant
    assert Revocation.of_key(revocation.key, revocation.expires_at, revocation.issued_before) == revocation


@pytest.mark.parametrize(
    ("key", "issued_before", "told"),
    [
        ("", None, "without a name"),
        ("token", None, "without a name"),
        ("token:", None, "without a name"),
        ("other:a", None, "RevocationKind"),
        ("issued:a", None, "a time of issue"),
        ("user:a", 1.0, "a time of issue"),
        ("token:a", 1.0, "a time of issue"),
    ],
)
def test_a_key_that_no_revocation_has_is_refused(key, issued_before, told):
    with pytest.raises(ValueError, match=told):
        Revocation.of_key(key, NOW, issued_before)


@pytest.mark.parametrize(
    ("claims", "token_id", "issued_at"),
    [
        ({"jti": "a", "iat": 5}, "a", 5.0),
        ({"jti": 7, "iat": 5.5}, "7", 5.5),
        ({}, None, None),
        ({"jti": "", "iat": "5"}, None, None),
        ({"jti": True, "iat": True}, None, None),
        ({"jti": 1.5, "iat": float("nan")}, None, None),
        ({"jti": ["a"], "iat": NOW * 1000}, None, None),
        ({"jti": 10**30, "iat": None}, None, None),
        ({"jti": "a" * 512}, "a" * 512, None),
        ({"jti": "a" * 513}, None, None),
    ],
)
def test_claims_that_name_a_token_or_its_time_are_read_and_refuse_none(claims, token_id, issued_at):
    parsed = parse_claims({"sub": "ann", **claims})
    assert (parsed.token_id, parsed.issued_at) == (token_id, issued_at)


def test_a_verifier_refuses_what_was_taken_back():
    table = RevocationTable(lambda: NOW)
    verifier = open_verifier(AuthSettings(secret=SECRET), wall_clock=lambda: NOW, revocations=table)
    token = signed(jti="a")
    verifier.verify(token)
    table.add(Revocation(TOKEN, "a", NOW + 60))
    with pytest.raises(Disconnect, match="4001 token was revoked") as caught:
        verifier.verify(token)
    assert caught.value.why is RefusalReason.TOKEN_REVOKED
    verifier.verify(signed(jti="b"))


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


NAMES = st.sampled_from(["a", "b"])
TIMES = st.integers(0, 8).map(float)
REVOCATIONS = st.one_of(
    st.builds(Revocation, st.sampled_from([TOKEN, USER]), NAMES, TIMES),
    st.builds(Revocation, st.just(ISSUED), NAMES, TIMES, TIMES),
)
CLAIMS = st.builds(Claims, NAMES, token_id=NAMES | st.none(), issued_at=TIMES | st.none())


@given(
    steps=st.lists(st.tuples(TIMES, REVOCATIONS), max_size=12),
    later=TIMES,
    claims=CLAIMS,
)
def test_a_table_decides_as_a_list_of_all_revocations_would(steps, later, claims):
    """Those added when they have run out already hold no longer, nor do those merged with them."""
    clock = Clock()
    table = RevocationTable(clock)
    held: dict[str, Revocation] = {}
    for passed, revocation in steps:
        clock.now += passed / 4
        held = {key: one for key, one in held.items() if one.expires_at > clock.now}
        if revocation.expires_at > clock.now or revocation.key in held:
            known = held.get(revocation.key, revocation)
            held[revocation.key] = known.merged(revocation)
        table.add(revocation)
    clock.now += later
    held = {key: one for key, one in held.items() if one.expires_at > clock.now}
    assert table.revokes(claims) is any(one.means(claims) for one in held.values())
    assert sorted(table, key=lambda one: one.key) == sorted(held.values(), key=lambda one: one.key)
    assert len(table) == len(held)
    assert all(key in table for key in held)


@given(revocations=st.lists(REVOCATIONS, max_size=6), order=st.randoms(), claims=CLAIMS)
def test_the_order_of_revocations_is_of_no_matter(revocations, order, claims):
    shuffled = [*revocations, *revocations[:3]]
    order.shuffle(shuffled)
    tables = RevocationTable(lambda: -1.0), RevocationTable(lambda: -1.0)
    for table, added in zip(tables, (revocations, shuffled), strict=True):
        for revocation in added:
            table.add(revocation)
    assert set(tables[0]) == set(tables[1])
    assert tables[0].revokes(claims) is tables[1].revokes(claims)


def test_a_table_keeps_nothing_that_has_run_out_however_often_it_is_prolonged():
    clock = Clock()
    table = RevocationTable(clock)
    for second in range(1000):
        clock.now = float(second)
        table.add(Revocation(USER, "ann", second + 10.0))
        table.add(Revocation(TOKEN, f"{second}", second + 1.0))
    assert (len(table), len(table._checks)) == (2, 2)
    clock.now = 2000.0
    assert len(table) == len(table._by_key) == len(table._checks) == 0
