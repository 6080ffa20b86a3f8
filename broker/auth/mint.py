"""Makes client tokens, for the command line, the examples and applications that share the secret.

Signing with a shared secret is one HMAC (RFC 7515 section 3.1), so this does without PyJWT, whose import
would be most of the time that `greenroom token` takes.
"""

import hmac
import json
import math
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence

from broker.auth.claims import MAX_TOKEN_CHARACTERS, parse_claims
from broker.auth.secret import check_secret, is_shared_secret
from broker.config.check import hmac_algorithms
from broker.config.settings import AuthSettings
from broker.errors import ConfigurationError, Disconnect


def make_token(
    auth: AuthSettings,
    user_id: str,
    *,
    ttl_seconds: float,
    now: float,
    rooms: Sequence[str] | None = None,
    can: Sequence[str] | None = None,
    is_hidden: bool = False,
    info: object = None,
    auto_join: Sequence[str] | None = None,
) -> str:
    """Return a token that a server with these settings accepts; see `mint_token`.

    :raises ConfigurationError: as `mint_token`, and if no algorithm of the settings uses the secret.
    """
    algorithms = hmac_algorithms(auth)
    if not algorithms:
        raise ConfigurationError(
            f"auth.algorithms: {', '.join(auth.algorithms)} tokens are made by who holds the private key; "
            "with auth.secret alone, HS256, HS384 and HS512 tokens can be made"
        )
    return mint_token(
        secret=auth.secret or "",
        algorithm=algorithms[0],
        user_id=user_id,
        ttl_seconds=ttl_seconds,
        now=now,
        rooms=rooms,
        can=can,
        is_hidden=is_hidden,
        info=info,
        auto_join=auto_join,
        info_bytes=auth.info_bytes,
        audience=auth.audience,
        issuer=auth.issuer,
    )


def mint_token(
    *,
    secret: str,
    algorithm: str,
    user_id: str,
    ttl_seconds: float,
    now: float,
    rooms: Sequence[str] | None = None,
    can: Sequence[str] | None = None,
    is_hidden: bool = False,
    info: object = None,
    auto_join: Sequence[str] | None = None,
    info_bytes: int = MAX_TOKEN_CHARACTERS,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """Return a token for `user_id` that is good from `now` (Unix seconds) for `ttl_seconds`.

    Claims that are None are left out; `info` is a JSON value. `exp` is rounded up to a whole second.

    :raises ConfigurationError: if the secret is weak, the algorithm needs a private key, `ttl_seconds` is
        not above 0, or the server would refuse such a token.
    """
    if not is_shared_secret(algorithm):
        raise ConfigurationError(f"cannot make {algorithm} tokens: only who holds the private key can")
    key = check_secret(secret, algorithm)
    if not 0 < ttl_seconds < math.inf:
        raise ConfigurationError("cannot make this token: its time to live must be above 0 seconds")
    claims: dict[str, object] = {"sub": user_id, "iat": int(now), "exp": math.ceil(now + ttl_seconds)}
    optional = {
        "rooms": _list(rooms),
        "can": _list(can),
        "hidden": is_hidden or None,
        "info": info,
        "auto_join": _list(auto_join),
        "aud": audience,
        "iss": issuer,
    }
    claims.update({name: value for name, value in optional.items() if value is not None})
    try:
        parse_claims(claims, info_bytes=info_bytes)
    except Disconnect as refusal:
        raise ConfigurationError(f"cannot make this token: {refusal.reason}") from None
    token = _sign(claims, key, algorithm)
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise ConfigurationError(
            f"cannot make this token: it would be longer than {MAX_TOKEN_CHARACTERS} characters"
        )
    return token


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _sign(claims: Mapping[str, object], key: bytes, algorithm: str) -> str:
    header = _encode_json({"alg": algorithm, "typ": "JWT"})
    message = header + b"." + _encode_json(claims)
    signature = hmac.digest(key, message, algorithm.replace("HS", "sha"))
    return (message + b"." + _encode(signature)).decode()


def _encode_json(value: Mapping[str, object]) -> bytes:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
