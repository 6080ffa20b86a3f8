"""Tokens: the fast path and PyJWT come to the same claims, or to the same refusal."""

import base64
import hmac

import attrs

from broker.auth.tokens import TokenVerifier, open_verifier
from broker.config.settings import AuthSettings
from broker.errors import Disconnect

SECRET = "a-secret-of-32-bytes-or-a-little-more"
NOW = 1_700_000_000.0
WITH_FAST_PATH = open_verifier(AuthSettings(secret=SECRET), wall_clock=lambda: NOW)
BY_LIBRARY = attrs.evolve(WITH_FAST_PATH, own=attrs.evolve(WITH_FAST_PATH._own, fast_paths=()))

SEEDS = (
    b'{"alg":"HS256","typ":"JWT"}.{"sub":"ann","exp":1700000060,"iat":1699999999.5,"rooms":["a*"],"can":["join"]}',
    b'{"alg": "HS256"}.{"sub":"ann","exp":1700000060,"info":{"name":"Ann","n":[1,2.5]},"jti":"x","nbf":0}',
    b'{"alg":"HS256"}.{"sub":"ann","exp":1e400,"aud":"x","iss":null,"sub":"bob"}',
    b'{"alg":"none"}.{"sub":"ann"}',
    b'{"alg":"HS256","crit":["b64"],"b64":false}.{"sub":"ann","exp":1700000060}',
    b'{"typ":"JWT","alg":"HS256"}.{"sub":"\\ud800","exp":true}',
    b'{"alg":"HS256"}.' + b"[" * 70 + b"]" * 70,
)


def check(data: bytes) -> None:
    """Sign what may be a header and a payload, and verify it; and the bytes themselves."""
    header, _, payload = data.partition(b".")
    signed = _segment(header) + b"." + _segment(payload)
    signature = _segment(hmac.digest(SECRET.encode(), signed, "sha256"))
    for token in (signed + b"." + signature, signed + b"." + data[-43:], data):
        text = token.decode("latin-1")
        assert repr(_verify(WITH_FAST_PATH, text)) == repr(_verify(BY_LIBRARY, text))


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _verify(verifier: TokenVerifier, token: str) -> object:
    try:
        return verifier.verify(token)
    except Disconnect as refusal:
        return refusal.code, refusal.reason, refusal.why
