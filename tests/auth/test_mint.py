"""Tokens made here are good tokens, for this server and for any other reader of JWT."""

import math
import subprocess
import sys
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.mint import mint_token
from broker.auth.tokens import open_verifier
from broker.config.settings import Algorithm, AuthSettings
from broker.errors import ConfigurationError, Disconnect
from broker.model import Capability, Claims
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import SECRET

LONG_SECRET = SECRET * 2
"""Long enough for HS512."""
NOW = 1_700_000_000.25


def mint(**given: Any) -> str:
    usual: dict[str, Any] = {
        "secret": LONG_SECRET,
        "algorithm": "HS256",
        "user_id": "ada",
        "ttl_seconds": 60.0,
        "now": NOW,
    }
    return mint_token(**(usual | given))


def verify(token: str, *, now: float = NOW, **settings: Any) -> Claims:
    return open_verifier(AuthSettings(secret=LONG_SECRET, **settings), wall_clock=lambda: now).verify(token)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_pyjwt_reads_it(algorithm: Algorithm) -> None:
    token = mint(algorithm=algorithm)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT"}
    payload = jwt.decode(token, LONG_SECRET, algorithms=[algorithm], options={"verify_exp": False})
    assert payload == {"sub": "ada", "iat": 1_700_000_000, "exp": 1_700_000_061}


def test_the_server_takes_everything_that_was_asked_for() -> None:
    token = mint(rooms=("lobby", "team.*"), can=["join"], audience="rooms", issuer="me")
    assert verify(token, audience="rooms", issuer="me") == Claims(
        "ada",
        expires_at=1_700_000_061,
        rooms=("lobby", "team.*"),
        can=frozenset({Capability.JOIN}),
        issued_at=1_700_000_000,
    )


def test_empty_lists_are_written_too() -> None:
    claims = verify(mint(rooms=[], can=[]))
    assert claims.rooms == ()
    assert claims.can == frozenset()


def test_the_token_runs_out() -> None:
    token = mint(ttl_seconds=0.001)
    verify(token)
    with pytest.raises(Disconnect, match="expired"):
        verify(token, now=NOW + 1)


@given(
    user_id=st.text(alphabet=st.characters(categories=None), max_size=130),
    rooms=st.none() | st.lists(st.text(max_size=130), max_size=20),
)
def test_what_can_be_made_is_accepted(user_id: str, rooms: list[str] | None) -> None:
    try:
        token = mint(user_id=user_id, rooms=rooms)
    except ConfigurationError:
        return
    assert verify(token).user_id == user_id


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a/b", "a\nb", "\ud800"])
def test_a_user_id_that_the_server_would_refuse(user_id: str) -> None:
    with pytest.raises(ConfigurationError, match="claim sub: a string of 1 to 128 characters"):
        mint(user_id=user_id)


@pytest.mark.parametrize("ttl_seconds", [0, -1, math.nan, math.inf])
def test_a_token_must_live(ttl_seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0 seconds"):
        mint(ttl_seconds=ttl_seconds)


def test_a_token_cannot_outlive_the_calendar() -> None:
    with pytest.raises(ConfigurationError, match="claim exp"):
        mint(ttl_seconds=1e300)


def test_an_unknown_capability() -> None:
    with pytest.raises(ConfigurationError, match="join, chat, publish, presence, history, call"):
        mint(can=["fly"])


def test_too_many_rooms_for_a_token() -> None:
    with pytest.raises(ConfigurationError, match="claim rooms"):
        mint(rooms=["r"] * 257)
    with pytest.raises(ConfigurationError, match="longer than 8192 characters"):
        mint(rooms=["r" * 128] * 200)


def test_a_weak_secret() -> None:
    with pytest.raises(ConfigurationError, match="GREENROOM_SECRET"):
        mint(secret="short")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "none", "HS1"])
def test_an_algorithm_without_a_shared_secret(algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match="private key"):
        mint(algorithm=algorithm)


def test_importing_it_does_not_import_cryptography() -> None:
    program = "import sys, broker.auth.mint; sys.exit(any(m in sys.modules for m in ('jwt', 'cryptography')))"
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, timeout=PATIENCE_SECONDS).returncode == 0
    )
