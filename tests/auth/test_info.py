"""The claim `info`: any JSON that all clients can read, bounded, the same whichever way the token was read."""

import json

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.auth.mint import make_token
from broker.auth.tokens import open_verifier
from broker.config.settings import AuthSettings
from broker.errors import ConfigurationError, Disconnect
from tests.support.secrets import SECRET


def info_of(payload: str, *, header: dict[str, str] | None = None, **settings: int) -> bytes | str | None:
    """Return the info of a token, or the reason for which it is refused."""
    token = jwt.PyJWS().encode(payload.encode(), SECRET, algorithm="HS256", headers=header)
    verifier = open_verifier(AuthSettings(secret=SECRET, **settings), wall_clock=lambda: 0.0)
    try:
        return verifier.verify(token).info
    except Disconnect as refusal:
        return refusal.reason


def packed(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values, st.booleans())
@example({"name": "Ann", "avatar": "https://example.org/ann.png"}, False)
def test_any_json_arrives_whichever_way_the_token_is_read(value: object, is_plain: bool) -> None:
    # PyJWT reads a token whose header names a key.
    header = None if is_plain else {"typ": "JWT", "cty": "x"}
    info = info_of(json.dumps({"sub": "ann", "info": value}), header=header)
    assert info == (None if value is None else packed(value))


@given(values.filter(lambda value: value is not None))
def test_its_size_is_that_of_the_json_that_members_are_sent(value: object) -> None:
    payload = json.dumps({"sub": "ann", "info": value}, indent=1)
    size = len(packed(value))
    assert info_of(payload, info_bytes=size) == packed(value)
    assert info_of(payload, info_bytes=size - 1) == (
        f"claim info: at most {size - 1} bytes of JSON (auth.info_bytes)"
    )


@pytest.mark.parametrize(
    "written", ["1e400", "[-1e999]", "NaN", '{"a":Infinity}', str(2**63), f"[{-(2**63) - 1}]", r'"\ud800"']
)
def test_a_value_that_not_every_client_can_read_is_refused(written: str) -> None:
    refused = info_of(f'{{"sub":"ann","info":{written}}}')
    assert isinstance(refused, str)
    # RFC 6455 section 5.5: the reason of a close frame has up to 123 bytes.
    assert len(refused.encode()) <= 123
    assert refused.startswith("claim info: JSON of Unicode strings")


def test_a_token_is_made_with_an_info_that_the_server_accepts() -> None:
    auth = AuthSettings(secret=SECRET, info_bytes=10)
    token = make_token(auth, "ann", ttl_seconds=60, now=0.0, info={"n": "é"})
    assert open_verifier(auth, wall_clock=lambda: 0.0).verify(token).info == '{"n":"é"}'.encode()
    with pytest.raises(ConfigurationError, match="claim info"):
        make_token(auth, "ann", ttl_seconds=60, now=0.0, info="x" * 10)
