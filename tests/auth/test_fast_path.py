"""Nobody can tell whether a token went the fast path, or whether PyJWT read it."""

import base64
import hmac
import json
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.auth.tokens import TokenVerifier, open_verifier
from broker.config.settings import AuthSettings
from broker.errors import Disconnect
from broker.model import Claims

SECRET = "a-secret-of-32-bytes-or-a-little-more"
NOW = 1_700_000_000.0
PLAIN = b'{"alg":"HS256","typ":"JWT"}'


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header: bytes, payload: bytes, *, secret: str = SECRET, digest: str = "sha256") -> str:
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(secret.encode(), signed.encode(), digest))}"


def verifier(**settings: Any) -> TokenVerifier:
    return open_verifier(AuthSettings(**{"secret": SECRET, **settings}), wall_clock=lambda: NOW)


def outcome(verifier: TokenVerifier, token: str) -> object:
    try:
        return verifier.verify(token)
    except Disconnect as refusal:
        return refusal.code, refusal.reason, refusal.why


def check(token: str, **settings: Any) -> object:
    """Return what comes of a token, after a look whether that is the same without the fast path."""
    fast = verifier(**settings)
    found = outcome(fast, token)
    # Not only equal: 1 is equal to 1.0 and to True.
    assert repr(found) == repr(outcome(attrs.evolve(fast, own=attrs.evolve(fast._own, fast_paths=())), token))
    return found


def takes_fast_path(token: str, **settings: Any) -> bool:
    return any(path.payload_of(token) is not None for path in verifier(**settings)._own.fast_paths)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from([2**63, 2**64])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "rooms", "can", "aud", "iss", "x"]), VALUES
)
ODD_VALUES = st.sampled_from(
    [
        b"1e400", b"-1e400", b"NaN", b"Infinity", b"-0", b"-0.0", b"1E5", b"01", b"1.", b"0x1", b"9" * 30, b"1.5e3",
        b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\x00"', b'"\x7f"', b'"\n"', b'"\xff"', b'"\\x"',
        b"[" * 100 + b"]" * 100, b"[" * 63 + b"]" * 63, b"[" * 10_000, b"{}", b"", b"// x", b"'x'", b"null", b"True",
    ]
)  # fmt: skip
SPACES = st.text(" \t\r\n\x0b\x0c\xa0\ufeff", max_size=2).map(str.encode)
PAYLOADS = st.one_of(
    CLAIMS.map(json.dumps).map(str.encode),
    CLAIMS.map(lambda claims: json.dumps(claims, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.builds(lambda value: b'{"sub":"ann","x":%b}' % value, ODD_VALUES),
    st.builds(lambda value: b'{"sub":%b}' % value, ODD_VALUES),
    st.builds(lambda value: b'{"sub":"ann","exp":%b}' % value, ODD_VALUES),
    st.builds(lambda a, b: b'{"sub":"ann",%b"sub":"bob"}%b' % (a, b), SPACES, SPACES),
    st.builds(lambda a, b: a + b'{"sub":"ann"}' + b, SPACES, SPACES),
    st.binary(max_size=10),
    st.sampled_from([b"", b"[]", b'"x"', b"1", b"{", b'{"sub":"ann",}', b'{"sub":"ann"}x', b'{"sub" "ann"}']),
)
HEADERS = st.one_of(
    st.just(PLAIN),
    st.sampled_from(
        [
            b'{"alg": "HS256"}', b'{"typ":"JWT","alg":"HS256"}', b'{"alg":"HS256","kid":"1"}', b'{"alg":"none"}',
            b'{"alg":"HS256","crit":["x"]}', b'{"alg":"HS384"}', b'{"alg":"hs256"}', b'{"alg":"HS256","b64":false}',
            b"{}", b"[]", b"", b'{"alg":"HS256","typ":"JWT"', b'{"alg":"HS256","alg":"none"}',
        ]
    ),
)  # fmt: skip


@given(header=HEADERS, payload=PAYLOADS)
@example(header=PLAIN, payload=b'{"sub":"ann","exp":%d}' % 2**70)
def test_any_signed_token_comes_to_the_same(header: bytes, payload: bytes) -> None:
    check(sign(header, payload))


@given(
    payload=PAYLOADS,
    at=st.integers(0, 300),
    put=st.sampled_from(
        ["", "A", "B", "-", "+", "/", "_", "=", "==", ".", " ", "\n", "\u00e9", "\u0141", "\x00"]
    ),
    cut=st.integers(0, 2),
)
def test_any_change_of_a_token_comes_to_the_same(payload: bytes, at: int, put: str, cut: int) -> None:
    token = sign(PLAIN, payload)
    at = min(at, len(token))
    check(token[:at] + put + token[at + cut :])


@pytest.mark.parametrize("last", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
def test_a_signature_is_written_in_one_way_only(last: str) -> None:
    token = sign(PLAIN, b'{"sub":"ann"}')
    found = check(token[:-1] + last)
    assert isinstance(found, Claims) is (last == token[-1])


@pytest.mark.parametrize(
    ("secret", "digest"), [("another", "sha256"), (SECRET, "sha512"), (SECRET, "sha384"), ("", "sha256")]
)
def test_another_signature_is_refused(secret: str, digest: str) -> None:
    found = check(sign(PLAIN, b'{"sub":"ann"}', secret=secret, digest=digest))
    assert isinstance(found, tuple)
    assert found[1] == "token signature is wrong"


def test_plain_tokens_take_the_fast_path_and_only_where_their_algorithm_is_allowed() -> None:
    payload = b'{"sub":"ann","exp":1700000060}'
    long_secret = SECRET * 2
    token, other = sign(PLAIN, payload), sign(PLAIN, payload, secret=long_secret)
    assert takes_fast_path(token)
    assert isinstance(check(token), Claims)
    assert takes_fast_path(other, secret=long_secret, algorithms=("HS512", "HS256"))
    assert not takes_fast_path(other, secret=long_secret, algorithms=("HS512",))
    found = check(other, secret=long_secret, algorithms=("HS512",))
    assert isinstance(found, tuple)
    assert found[1] == "token algorithm is not allowed here"
