"""Reads a JSON Web Key Set (RFC 7517)."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations

from broker.auth.binding import VerificationKey, bind_public_key
from broker.errors import ConfigurationError

# Members that only a private or symmetric key has (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1).
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def read_jwks(
    data: bytes, *, allowed: Sequence[str], place: str, is_remote: bool = False
) -> tuple[VerificationKey, ...]:
    """Return the keys of the set that verify signatures under the `allowed` algorithms.

    Keys for something else (`use`, `key_ops`, `alg`) and of unknown types are ignored, as RFC 7517
    section 5 asks. An issuer's set, if `is_remote`, may also hold keys for algorithms that are not allowed
    here, and each key needs a `kid`, as keys come and go.

    :raises ConfigurationError: if the set is malformed, holds a private, weak or broken key or none that
        can be used, or if tokens could not tell two of its keys apart; begins with `place`.
    """
    keys = []
    for index, jwk in enumerate(_entries(data, place)):
        key = _read_key(jwk, allowed=allowed, place=f"{place}: keys[{index}]", is_remote=is_remote)
        if key is not None:
            keys.append(key)
    if not keys:
        raise ConfigurationError(f"{place}: none of its keys verifies {', '.join(allowed)}")
    _check_kids(keys, place)
    return tuple(keys)


def _entries(data: bytes, place: str) -> list[object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{place}: is not JSON") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ConfigurationError(f"{place}: is not a key set: an object with a list `keys` is expected")
    return keys


def _read_key(jwk: object, *, allowed: Sequence[str], place: str, is_remote: bool) -> VerificationKey | None:
    if not isinstance(jwk, dict):
        raise ConfigurationError(f"{place} is not an object")
    if not _SECRET_MEMBERS.isdisjoint(jwk):
        raise ConfigurationError(
            f"{place} is a private or secret key: leave only public keys in this file "
            "(a shared secret belongs in auth.secret)"
        )
    algorithm = _import_algorithm(jwk)
    if algorithm is None or not _is_for_signatures(jwk):
        return None
    if is_remote and set(allowed).isdisjoint(_fitting_algorithms(jwk)):
        return None
    if "alg" in jwk:
        allowed = [name for name in allowed if name == jwk["alg"]]
        if not allowed:
            return None
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ConfigurationError(f"{place}: kid is not a string")
    if is_remote and not kid:
        raise ConfigurationError(f"{place} has no kid, so it could not be told from the next one")
    from jwt import PyJWK  # noqa: PLC0415  # see binding.py
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    try:
        key = PyJWK(jwk, algorithm).key
    except (PyJWTError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{place} is not a valid {jwk['kty']} key: {error}") from None
    return bind_public_key(key, allowed=allowed, place=place, kid=kid)


def _fitting_algorithms(jwk: Mapping[str, object]) -> tuple[str, ...]:
    """Return the algorithms that fit a key's type, and for EC its curve (RFC 7518 section 3.1)."""
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            return ("RS256", "RS384", "RS512")
        case "EC", curve:
            return {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}.get(str(curve), ())
        case _:
            return ("EdDSA",)


def _is_for_signatures(jwk: Mapping[str, object]) -> bool:
    """Whether `use` and `key_ops` let the key verify (RFC 7517 sections 4.2 and 4.3)."""
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _import_algorithm(jwk: Mapping[str, object]) -> str | None:
    """Name the algorithm whose PyJWT class reads this type of key; None for a type not known here."""
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            return "RS256"
        case "EC", "P-256" | "P-384" | "P-521":
            return "ES256"
        case "OKP", "Ed25519" | "Ed448":
            return "EdDSA"
        case _:
            return None


def _check_kids(keys: Sequence[VerificationKey], place: str) -> None:
    for one, other in combinations(keys, 2):
        if set(one.algorithms).isdisjoint(other.algorithms):
            continue
        if one.kid is None or other.kid is None or one.kid == other.kid:
            raise ConfigurationError(
                f"{place}: holds several keys for {one.algorithms[0]}, so each needs a kid of its own"
            )
