"""The issuers of tokens: each has its keys, algorithms, audience and names of claims, and nobody else's."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from broker.auth.binding import PublicKey
from broker.auth.claims import (
    USUAL_NAMES,
    ClaimNames,
    check_audience,
    check_authorized_party,
    check_issuer,
    unauthorized,
    with_usual_names,
)
from broker.auth.fast_path import ALGORITHM, FastPath
from broker.auth.keys import KeyRing, Keys, KeySource
from broker.auth.remote_keys import RemoteKeys
from broker.config.settings import AuthSettings, IssuerSettings
from broker.errors import Disconnect, RefusalReason
from broker.portable_json import is_deep

if TYPE_CHECKING:  # see binding.py
    from jwt import PyJWS


@attrs.frozen(kw_only=True)
class TrustedIssuer:
    """An issuer whose tokens are accepted. Holds no state but the keys that are fetched."""

    keys: Keys
    fast_paths: tuple[FastPath, ...]
    algorithms: tuple[str, ...]
    audience: str | None
    issuer: str | None
    """The `iss` of its tokens; None accepts any, and none."""
    authorized_parties: tuple[str, ...] = ()
    names: ClaimNames = USUAL_NAMES

    @classmethod
    def of(cls, settings: AuthSettings | IssuerSettings, ring: KeyRing, keys: Keys) -> "TrustedIssuer":
        """Return the issuer of some settings; `ring` has the keys that they hold, `keys` all that verify."""
        usual = cls(
            keys=keys,
            fast_paths=_open_fast_paths(ring),
            algorithms=tuple(settings.algorithms),
            audience=settings.audience,
            issuer=settings.issuer,
        )
        if isinstance(settings, AuthSettings):
            return usual
        return attrs.evolve(
            usual,
            authorized_parties=settings.authorized_parties,
            names=ClaimNames(settings.user_claim, settings.rooms_claim, settings.can_claim),
        )

    @cached_property
    def jws(self) -> "PyJWS":
        """The parser of tokens that are not the fast path's."""
        from jwt import PyJWS  # noqa: PLC0415

        return PyJWS(algorithms=self.algorithms)

    @property
    def source(self) -> KeySource | None:
        """The source of its keys, if they are fetched."""
        return self.keys.source if isinstance(self.keys, RemoteKeys) else None

    @property
    def lacks_keys(self) -> bool:
        """Whether its keys are fetched and have not come yet."""
        return isinstance(self.keys, RemoteKeys) and not self.keys.is_known

    def claims_of(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the claims of a payload that is signed and in force, under their usual names.

        :raises Disconnect: 4001 if they are not for us, or not from this issuer.
        """
        check_audience(payload, self.audience)
        check_issuer(payload, self.issuer)
        check_authorized_party(payload, self.authorized_parties)
        return with_usual_names(payload, self.names)

    def signed_payload(self, token: str) -> dict[str, object]:
        """Return the payload of a token that one of the issuer's keys has signed.

        :raises KeysPending: if its key may be among those that are being fetched.
        :raises Disconnect: 4001 if it is malformed or not so signed.
        """
        for fast_path in self.fast_paths:
            if (plain := fast_path.payload_of(token)) is not None:
                return plain
        from jwt.exceptions import InvalidSignatureError, PyJWTError  # noqa: PLC0415

        try:
            payload = json.loads(_shallow(self._verified_bytes(token)))
        except InvalidSignatureError:
            raise unauthorized("token signature is wrong", RefusalReason.TOKEN_SIGNATURE) from None
        except (PyJWTError, ValueError, RecursionError):
            raise unauthorized("token is malformed", RefusalReason.TOKEN_MALFORMED) from None
        if not isinstance(payload, dict):
            raise unauthorized(
                "token is malformed: its payload is not an object", RefusalReason.TOKEN_MALFORMED
            )
        return payload

    def key_name(self, token: str) -> str:
        """Return the name of the key that signed a token: `secret`, `previous_secret`, its `kid`, or `public key`.

        :raises Disconnect: if it was signed by none.
        """
        from jwt.exceptions import InvalidSignatureError  # noqa: PLC0415

        header = self.jws.get_unverified_header(token)
        key = self.keys.choose(algorithm=header.get("alg"), kid=header.get("kid"))
        if not isinstance(key.key, bytes):
            return "public key" if key.kid is None else f"kid {key.kid}"
        try:
            self._decode(token, key.key, key.algorithms)
        except InvalidSignatureError:
            return "previous_secret"
        return "secret"

    def _verified_bytes(self, token: str) -> bytes:
        from jwt.exceptions import InvalidSignatureError  # noqa: PLC0415
        from jwt.utils import base64url_decode  # noqa: PLC0415

        _shallow(base64url_decode(token.partition(".")[0]))
        header = self.jws.get_unverified_header(token)
        # RFC 7515 section 4.1.11: extensions marked critical must be understood, and we know none.
        # Header members that carry or point to keys (jwk, jku, x5c, x5u) are never read.
        if "crit" in header:
            raise unauthorized("token header asks for an extension (crit)", RefusalReason.TOKEN_MALFORMED)
        key = self.keys.choose(algorithm=header.get("alg"), kid=header.get("kid"))
        *others, last = key.candidates()
        for other in others:
            with suppress(InvalidSignatureError):
                return self._decode(token, other, key.algorithms)
        return self._decode(token, last, key.algorithms)

    def _decode(self, token: str, key: "bytes | PublicKey", algorithms: Sequence[str]) -> bytes:
        verified = self.jws.decode_complete(token, key, algorithms=algorithms)
        payload: bytes = verified["payload"]
        return payload


def unverified_issuer(token: str) -> str | None:
    """Return the `iss` that a token claims; None if it has none or cannot be read.

    It only chooses the keys; whoever they belong to has signed the `iss` that is checked afterwards.
    """
    from jwt.utils import base64url_decode  # noqa: PLC0415

    try:
        payload = json.loads(_shallow(base64url_decode(token.split(".")[1])))
    except (ValueError, IndexError, RecursionError):
        return None
    issuer = payload.get("iss") if isinstance(payload, dict) else None
    return issuer if isinstance(issuer, str) else None


def _open_fast_paths(keys: KeyRing) -> tuple[FastPath, ...]:
    """Return the fast paths for tokens that name no key, one for each shared secret that serves those."""
    try:
        key = keys.choose(algorithm=ALGORITHM, kid=None)
    except Disconnect:
        return ()
    return tuple(FastPath(secret) for secret in key.candidates() if isinstance(secret, bytes))


def _shallow(json_bytes: bytes) -> str:
    """Return a JSON text that is not nested so deep that it depends on the interpreter whether it can be read.

    :raises ValueError: if it is, or is no UTF-8.
    """
    text = json_bytes.decode()
    if is_deep(text):
        raise ValueError("nested too deep")
    return text
