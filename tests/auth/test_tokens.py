"""A token becomes claims, or is refused with 4001 and a reason that a developer understands."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from broker.auth.permissions import RoomPolicy
from broker.auth.tokens import TokenVerifier, open_verifier
from broker.config.settings import Algorithm, AuthSettings, Settings
from broker.errors import CloseCode, ConfigurationError, Disconnect, RefusalReason
from broker.model import ALL_CAPABILITIES, Capability, Claims, check_room_name
from tests.support.secrets import SECRET

NOW = 1_700_000_000.0


def verifier(**settings: Any) -> TokenVerifier:
    return open_verifier(AuthSettings(secret=SECRET, **settings), wall_clock=lambda: NOW)


def signed(**claims: Any) -> str:
    return jwt.encode({"sub": "ada"} | claims, SECRET, algorithm="HS256")


def signed_bytes(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")


def verify(**claims: Any) -> Claims:
    return verifier().verify(signed(**claims))


def refusal(token: str | None, **settings: Any) -> str:
    with pytest.raises(Disconnect) as caught:
        verifier(**settings).verify(token)
    assert caught.value.code is CloseCode.UNAUTHORIZED
    reason = caught.value.reason
    # RFC 6455 section 5.5: a close frame carries 125 bytes, 2 of them the code.
    assert len(reason.encode()) <= 123
    return reason


# What a good token says


def test_a_token_with_nothing_but_a_sub_allows_everything_for_ever() -> None:
    assert verify() == Claims("ada", expires_at=None, rooms=None, can=ALL_CAPABILITIES)


def test_every_claim_arrives() -> None:
    claims = verify(exp=NOW + 60, rooms=["lobby", "team.*"], can=["join", "chat"])
    assert claims == Claims(
        "ada",
        expires_at=NOW + 60,
        rooms=("lobby", "team.*"),
        can=frozenset({Capability.JOIN, Capability.CHAT}),
    )


def test_empty_lists_allow_nothing() -> None:
    claims = verify(rooms=[], can=[])
    assert claims.rooms == ()
    assert claims.can == frozenset()


def test_unknown_claims_are_ignored() -> None:
    assert verify(name="Ada", iss="somebody", jti=7).user_id == "ada"


@pytest.mark.parametrize(
    "sub", ["a", "x" * 128, "ada lovelace", "Zoë", "auth0|5f7c8ec7c33c6c004bbafe82", "🎭"]
)
def test_a_user_id_may_be(sub: str) -> None:
    assert verify(sub=sub).user_id == sub


# Malformed tokens


@pytest.mark.parametrize("token", [None, ""])
def test_a_missing_token(token: str | None) -> None:
    assert refusal(token) == "token is missing"


def test_a_token_that_is_too_long() -> None:
    longest = signed(fill="x" * 6000)
    longest += "A" * (8192 - len(longest))
    assert refusal(longest) != refusal(longest + "A")
    assert refusal(longest + "A") == "token is longer than 8192 characters"


@pytest.mark.parametrize(
    "token", ["x", "a.b", "a.b.c", "..", "....", "e30.e30.", "é.é.é", "\ud800", "a.b.c.d.e"]
)
def test_a_malformed_token(token: str) -> None:
    assert refusal(token) in {"token is malformed", "token algorithm is not allowed here"}


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff", b"{", b'{"sub":"\xed\xa0\x80"}', b"[" * 5000])
def test_a_well_signed_payload_that_is_not_json(payload: bytes) -> None:
    assert refusal(signed_bytes(payload)) == "token is malformed"


def test_a_payload_in_another_encoding_than_utf8() -> None:
    assert refusal(signed_bytes('{"sub":"ada"}'.encode("utf-16"))) == "token is malformed"


@pytest.mark.parametrize("payload", [b"[]", b'"ada"', b"1", b"null"])
def test_a_payload_that_is_no_object(payload: bytes) -> None:
    assert refusal(signed_bytes(payload)) == "token is malformed: its payload is not an object"


def test_a_wrong_signature() -> None:
    other = jwt.encode({"sub": "ada"}, "another-secret-of-at-least-32-bytes", algorithm="HS256")
    assert refusal(other) == "token signature is wrong"
    header, _, signature = signed().split(".")
    forged = signed(sub="root").split(".")[1]
    assert refusal(f"{header}.{forged}.{signature}") == "token signature is wrong"


def test_the_signature_is_checked_before_anything_is_said_of_the_claims() -> None:
    stranger = jwt.encode({"exp": 1}, "another-secret-of-at-least-32-bytes", algorithm="HS256")
    assert refusal(stranger) == "token signature is wrong"


# Times


def test_a_token_is_good_until_the_second_it_expires() -> None:
    assert verify(exp=NOW + 0.001).expires_at == NOW + 0.001
    assert refusal(signed(exp=NOW)) == "token has expired (exp)"
    assert refusal(signed(exp=-1)) == "token has expired (exp)"


def test_leeway_forgives_just_so_much_of_an_expiry() -> None:
    lenient = verifier(leeway_seconds=30)
    assert lenient.verify(signed(exp=NOW - 29)).expires_at == NOW - 29
    assert refusal(signed(exp=NOW - 30), leeway_seconds=30) == "token has expired (exp)"


def test_a_token_is_good_from_the_second_it_begins() -> None:
    verify(nbf=NOW)
    assert refusal(signed(nbf=NOW + 1)) == "token is not valid yet (nbf)"


def test_leeway_forgives_just_so_much_of_a_beginning() -> None:
    verifier(leeway_seconds=30).verify(signed(nbf=NOW + 30))
    assert refusal(signed(nbf=NOW + 31), leeway_seconds=30) == "token is not valid yet (nbf)"


def test_the_clock_is_asked_each_time() -> None:
    times = iter([NOW, NOW + 100])
    ageing = open_verifier(AuthSettings(secret=SECRET), wall_clock=lambda: next(times))
    token = signed(exp=NOW + 50)
    ageing.verify(token)
    with pytest.raises(Disconnect, match="expired"):
        ageing.verify(token)


@pytest.mark.parametrize("iat", [NOW + 1e6, "yesterday", None])
def test_when_a_token_was_issued_is_no_matter(iat: object) -> None:
    verify(iat=iat)


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize(
    "value",
    [None, True, False, "1700000060", [], {}, math.nan, math.inf, -math.inf, 2**53 + 1, 10**400, -(2**54)],
    ids=str,
)
def test_a_time_must_be_a_number_of_seconds(claim: str, value: object) -> None:
    assert refusal(signed(**{claim: value})) == f"claim {claim}: a number of seconds since 1970"


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("unit", [1e3, 1e6], ids=["milliseconds", "microseconds"])
def test_a_time_in_a_smaller_unit_is_refused_with_the_reason(claim: str, unit: float) -> None:
    reason = (
        f"claim {claim}: a number of seconds since 1970; this looks like milliseconds (RFC 7519 section 2)"
    )
    assert refusal(signed(**{claim: int(NOW * unit)})) == reason


def test_the_end_of_the_calendar_is_a_time_in_seconds() -> None:
    verify(exp=253_402_300_799)


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "9" * 5000])
def test_a_number_that_python_cannot_hold(literal: str) -> None:
    refusal(signed_bytes(f'{{"sub":"ada","exp":{literal}}}'.encode()))


# Audience and issuer


@pytest.mark.parametrize("aud", ["rooms", ["rooms"], ["mail", "rooms"], ["rooms", "rooms"]])
def test_a_token_for_this_audience(aud: object) -> None:
    verifier(audience="rooms").verify(signed(aud=aud))


@pytest.mark.parametrize("aud", ["mail", "Rooms", "", [], ["mail", "mail"]])
def test_a_token_for_another_audience(aud: object) -> None:
    assert refusal(signed(aud=aud), audience="rooms") == "token is for another audience (aud)"


@pytest.mark.parametrize("aud", [None, 7, True, {"rooms": 1}, ["rooms", 7], [["rooms"]]])
def test_a_malformed_audience(aud: object) -> None:
    assert refusal(signed(aud=aud), audience="rooms") == "claim aud: a string or a list of strings"


def test_a_token_without_the_audience_that_is_configured() -> None:
    assert refusal(signed(), audience="rooms") == "token has no audience (aud)"


@pytest.mark.parametrize("aud", ["rooms", ["rooms"], [], "", None])
def test_a_token_for_somebody_when_nobody_is_configured(aud: object) -> None:
    assert "auth.audience" in refusal(signed(aud=aud))


def test_the_issuer_when_configured() -> None:
    verifier(issuer="https://id").verify(signed(iss="https://id"))
    assert refusal(signed(), issuer="https://id") == "token has no issuer (iss)"
    assert refusal(signed(iss="https://evil"), issuer="https://id") == "token is from another issuer (iss)"
    listed = signed_bytes(b'{"sub":"ada","iss":["https://id"]}')
    assert refusal(listed, issuer="https://id") == "token is from another issuer (iss)"


# Shapes of the claims that are ours


def test_a_token_without_sub() -> None:
    assert refusal(signed_bytes(b"{}")) == "token has no sub claim: it is the user's id"


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=120, max_size=128
    )
)
def test_every_user_has_a_private_room(sub: str) -> None:
    claims = verify(sub=sub, rooms=[f"user_{sub}"])
    room = check_room_name(f"user_{claims.user_id}")
    RoomPolicy.from_settings(Settings()).check(claims, room, Capability.JOIN)


@pytest.mark.parametrize(
    "sub", [None, 7, [], "", "x" * 129, "a/b", "a\nb", "a\0", "a\x7f", "a\x85", "a\ud800"]
)
def test_a_sub_that_cannot_be_a_user_id(sub: object) -> None:
    payload = json.dumps({"sub": sub}).encode()
    assert refusal(signed_bytes(payload)).startswith("claim sub: a string of 1 to 128 characters")


def test_as_many_and_as_long_patterns_as_allowed() -> None:
    # Claims of this size pass the limit of a token, so they are spread over two.
    assert len(verify(rooms=["r"] * 256).rooms or ()) == 256
    assert verify(rooms=["r" * 128]).rooms == ("r" * 128,)


@pytest.mark.parametrize(
    "rooms",
    [None, "lobby", {}, 7, ["r"] * 257, [""], ["r" * 129], [None], [["lobby"]], ["lobby", 7]],
    ids=str,
)
def test_rooms_of_the_wrong_shape(rooms: object) -> None:
    assert refusal(signed(rooms=rooms)) == "claim rooms: a list of at most 256 strings of 1 to 128 characters"


@pytest.mark.parametrize("can", [None, "join", {}, ["fly"], ["join", "Chat"], [7], [["join"]], [None]])
def test_can_of_the_wrong_shape(can: object) -> None:
    assert refusal(signed(can=can)) == "claim can: a list out of join, chat, publish, presence, history, call"


# Every algorithm


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        ("RS256", lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("RS384", lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("RS512", lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("ES384", lambda: ec.generate_private_key(ec.SECP384R1())),
        ("ES512", lambda: ec.generate_private_key(ec.SECP521R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_a_public_key_verifies_what_its_private_key_signed(
    tmp_path: Path, algorithm: Algorithm, make: Callable[[], Any]
) -> None:
    private, stranger = make(), make()
    file = tmp_path / "key.pem"
    file.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    checking = open_verifier(
        AuthSettings(algorithms=(algorithm,), public_key_file=str(file)), wall_clock=lambda: NOW
    )
    token = jwt.encode({"sub": "ada"}, private, algorithm=algorithm)
    assert checking.verify(token).user_id == "ada"
    with pytest.raises(Disconnect, match="signature is wrong"):
        checking.verify(jwt.encode({"sub": "ada"}, stranger, algorithm=algorithm))
    for signature in ("", "AAAA", "A" * 86, "A" * 342):
        with pytest.raises(Disconnect, match="signature is wrong"):
            checking.verify(f"{token.rpartition('.')[0]}.{signature}")


def test_a_server_without_a_key_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="GREENROOM_SECRET"):
        open_verifier(AuthSettings(), wall_clock=lambda: NOW)


# Whatever comes

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(categories=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
claim_names = st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "rooms", "can"])


def assert_claims_or_4001(token: str) -> None:
    try:
        claims = verifier(audience="rooms").verify(token)
    except Disconnect as refusal:
        if refusal.code is CloseCode.UNAUTHORIZED and len(refusal.reason.encode()) <= 123:
            return
        raise
    assert 1 <= len(claims.user_id) <= 128


@given(st.text(alphabet=st.characters(categories=None)))
@example("." * 9000)
def test_any_text(token: str) -> None:
    assert_claims_or_4001(token)


@given(st.lists(st.binary(max_size=60), min_size=2, max_size=4))
def test_any_bytes_as_segments(segments: list[bytes]) -> None:
    assert_claims_or_4001(".".join(jwt.utils.base64url_encode(s).decode() for s in segments))


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), json_values))
def test_any_header(header: dict[str, Any]) -> None:
    encoded = jwt.utils.base64url_encode(json.dumps(header).encode()).decode()
    assert_claims_or_4001(f"{encoded}.e30.AAAA")


@given(st.binary())
def test_any_payload_well_signed(payload: bytes) -> None:
    assert_claims_or_4001(signed_bytes(payload))


@given(st.dictionaries(claim_names, json_values))
def test_any_claims_well_signed(claims: dict[str, Any]) -> None:
    usual = {"sub": "ada", "aud": "rooms"}
    assert_claims_or_4001(signed_bytes(json.dumps(usual | claims).encode()))


@given(secret_looking=st.text(alphabet="abcdefgh", min_size=12, max_size=40), claim=claim_names)
def test_a_reason_holds_nothing_of_the_token(secret_looking: str, claim: str) -> None:
    payload = json.dumps({"sub": "ada", claim: [secret_looking]}).encode()
    with pytest.raises(Disconnect) as caught:
        verifier(audience="x", issuer="y").verify(signed_bytes(payload))
    assert secret_looking not in str(caught.value)
    assert SECRET not in repr(verifier())


OTHER_SECRET = SECRET[::-1]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384"])
@pytest.mark.parametrize("kid", [None, "k1"])
def test_two_secrets_verify_while_one_is_replaced(algorithm: str, kid: str | None) -> None:
    """Plain tokens take the fast path, those with a kid or another hash do not."""
    old, new = SECRET * 2, OTHER_SECRET * 2
    rotating = open_verifier(
        AuthSettings(secret=new, previous_secret=old, algorithms=("HS256", "HS384")), wall_clock=lambda: NOW
    )
    headers = None if kid is None else {"kid": kid}
    for secret in (old, new):
        token = jwt.encode({"sub": "ann", "exp": NOW + 60}, secret, algorithm=algorithm, headers=headers)
        assert rotating.verify(token).user_id == "ann"
    strange = jwt.encode({"sub": "ann", "exp": NOW + 60}, "x" * 64, algorithm=algorithm, headers=headers)
    with pytest.raises(Disconnect) as caught:
        rotating.verify(strange)
    assert caught.value.why is RefusalReason.TOKEN_SIGNATURE
    after = open_verifier(
        AuthSettings(secret=new, previous_secret="", algorithms=("HS256", "HS384")), wall_clock=lambda: NOW
    )
    with pytest.raises(Disconnect):
        after.verify(jwt.encode({"sub": "ann", "exp": NOW + 60}, old, algorithm=algorithm, headers=headers))


def test_a_previous_secret_shows_nowhere() -> None:
    settings = AuthSettings(secret=SECRET, previous_secret=OTHER_SECRET)
    assert OTHER_SECRET not in repr(settings)
    assert OTHER_SECRET not in repr(open_verifier(settings, wall_clock=lambda: NOW))
