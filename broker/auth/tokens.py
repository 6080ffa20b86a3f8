"""Verifies client tokens: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises.

PyJWT checks the signature, where the fast path leaves it to PyJWT. Times are checked here, against the clock that was injected; so are the
other claims.
"""

import json
from collections.abc import Sequence
from contextlib import suppress

import attrs
import trio
from jwt import PyJWS
from jwt.exceptions import InvalidSignatureError, PyJWTError
from jwt.utils import base64url_decode

from broker.auth.binding import PublicKey
from broker.auth.claims import (
    MAX_TOKEN_CHARACTERS,
    check_audience,
    check_issuer,
    check_times,
    parse_claims,
)
from broker.auth.fast_path import ALGORITHM, FastPath
from broker.auth.keys import KeyRing, Keys, KeySource, key_source, load_keys
from broker.auth.pending import KeysPending
from broker.auth.remote_keys import RemoteKeys, RemoteKeySets
from broker.config.settings import AuthSettings
from broker.errors import CloseCode, Disconnect, RefusalReason
from broker.model import Claims, WallClock
from broker.portable_json import is_deep

KEYS_PATIENCE_SECONDS = 5.0
"""How long a client waits for the keys of its token's issuer to be fetched."""


def open_verifier(
    settings: AuthSettings, *, wall_clock: WallClock, remote: RemoteKeySets | None = None
) -> "TokenVerifier":
    """Load the keys that `settings` name and return what verifies tokens with them.

    `remote` has the keys that are fetched, without which settings with such keys cannot be used.

    :raises ConfigurationError: as `broker.auth.keys.load_keys`.
    """
    ring, source = load_keys(settings), key_source(settings)
    keys: Keys = ring
    if source is not None:
        assert remote is not None, "keys are fetched while a server runs"
        keys = remote.open(source)
    return TokenVerifier(
        keys=keys,
        fast_paths=_open_fast_paths(ring),
        jws=PyJWS(algorithms=settings.algorithms),
        audience=settings.audience,
        issuer=settings.issuer,
        leeway_seconds=settings.leeway_seconds,
        info_bytes=settings.info_bytes,
        wall_clock=wall_clock,
    )


async def verify_with_patience(verifier: "TokenVerifier", token: str | None) -> Claims:
    """Verify a token, after a wait of at most KEYS_PATIENCE_SECONDS for keys that are being fetched.

    :raises Disconnect: as `TokenVerifier.verify`.
    """
    try:
        return verifier.verify(token)
    except KeysPending as pending:
        with trio.move_on_after(KEYS_PATIENCE_SECONDS):
            await pending.fetching.wait()
    return verifier.verify(token)


def _open_fast_paths(keys: KeyRing) -> tuple[FastPath, ...]:
    """Return the fast paths for tokens that name no key, one for each shared secret that serves those."""
    try:
        key = keys.choose(algorithm=ALGORITHM, kid=None)
    except Disconnect:
        return ()
    return tuple(FastPath(secret) for secret in key.candidates() if isinstance(secret, bytes))


@attrs.frozen(kw_only=True)
class TokenVerifier:
    """Turns a token into claims, or refuses it. Holds no state: safe to share between tasks."""

    _keys: Keys
    _fast_paths: tuple[FastPath, ...]
    _jws: PyJWS
    _audience: str | None
    _issuer: str | None
    _leeway_seconds: float
    _info_bytes: int
    _wall_clock: WallClock

    def verify(self, token: str | None) -> Claims:
        """Return what `token` says, if it is signed by one of our keys, in force, and meant for us.

        `Claims.expires_at` is `exp` itself; the leeway of `auth.leeway_seconds` comes on top of it.

        :raises KeysPending: if its key may be among those that are being fetched.
        :raises Disconnect: 4001 for everything else; the reason helps a developer and holds nothing of the
            token.
        """
        payload = self._signed_payload(token)
        check_times(payload, now=self._wall_clock(), leeway_seconds=self._leeway_seconds)
        check_audience(payload, self._audience)
        check_issuer(payload, self._issuer)
        return parse_claims(payload, info_bytes=self._info_bytes)

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """The sources of the keys that are fetched."""
        return (self._keys.source,) if isinstance(self._keys, RemoteKeys) else ()

    @property
    def lacks_keys(self) -> bool:
        """Whether it can verify no token at all, as keys that are fetched have not come yet."""
        return isinstance(self._keys, RemoteKeys) and not self._keys.is_known

    def seconds_left(self, claims: Claims) -> float | None:
        """Return the seconds until `Claims.expires_at`, negative within the leeway; None if there is no end."""
        return None if claims.expires_at is None else claims.expires_at - self._wall_clock()

    def _signed_payload(self, token: str | None) -> dict[str, object]:
        if not token:
            raise _unauthorized("token is missing", RefusalReason.TOKEN_MISSING)
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _unauthorized(f"token is longer than {MAX_TOKEN_CHARACTERS} characters")
        for fast_path in self._fast_paths:
            if (plain := fast_path.payload_of(token)) is not None:
                return plain
        try:
            payload = json.loads(_shallow(self._verified_bytes(token)))
        except InvalidSignatureError:
            raise _unauthorized("token signature is wrong", RefusalReason.TOKEN_SIGNATURE) from None
        except (PyJWTError, ValueError, RecursionError):
            raise _unauthorized("token is malformed") from None
        if not isinstance(payload, dict):
            raise _unauthorized("token is malformed: its payload is not an object")
        return payload

    def _verified_bytes(self, token: str) -> bytes:
        _shallow(base64url_decode(token.partition(".")[0]))
        header = self._jws.get_unverified_header(token)
        # RFC 7515 section 4.1.11: extensions marked critical must be understood, and we know none.
        # Header members that carry or point to keys (jwk, jku, x5c, x5u) are never read.
        if "crit" in header:
            raise _unauthorized("token header asks for an extension (crit)")
        key = self._keys.choose(algorithm=header.get("alg"), kid=header.get("kid"))
        *others, last = key.candidates()
        for other in others:
            with suppress(InvalidSignatureError):
                return self._decode(token, other, key.algorithms)
        return self._decode(token, last, key.algorithms)

    def _decode(self, token: str, key: bytes | PublicKey, algorithms: Sequence[str]) -> bytes:
        verified = self._jws.decode_complete(token, key, algorithms=algorithms)
        payload: bytes = verified["payload"]
        return payload


def _shallow(json_bytes: bytes) -> str:
    """Return a JSON text that is not nested so deep that it depends on the interpreter whether it can be read.

    :raises ValueError: if it is, or is no UTF-8.
    """
    text = json_bytes.decode()
    if is_deep(text):
        raise ValueError("nested too deep")
    return text


def _unauthorized(reason: str, why: RefusalReason = RefusalReason.TOKEN_MALFORMED) -> Disconnect:
    return Disconnect(CloseCode.UNAUTHORIZED, reason, why=why)
