"""Ties each verification key to the algorithms that may use it.

A key that works under an algorithm of another family lets an attacker choose what is verified: the best
known case signs HS256 with the text of an RSA public key (RFC 8725 sections 2.1 and 3.1). So the key
says which algorithms it serves, and the token may only pick among them.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs

from broker.errors import ConfigurationError

# A server whose tokens are signed with a shared secret starts without cryptography: the fast path reads them.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

PublicKey: TypeAlias = "RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey"

# RFC 7518 section 3.3.
LEAST_RSA_BITS = 2048


@attrs.frozen
class VerificationKey:
    """A key, the algorithms it serves and its id in a key set. The key itself never shows in a repr."""

    key: "bytes | PublicKey" = attrs.field(repr=False)
    algorithms: tuple[str, ...]
    kid: str | None = None
    previous: bytes | None = attrs.field(default=None, repr=False)
    """A shared secret that is being replaced, and verifies as well until then."""

    def candidates(self) -> "Iterator[bytes | PublicKey]":
        """Return what may have signed a token, the likelier first."""
        yield self.key
        if self.previous is not None:
            yield self.previous


def bind_public_key(
    key: object, *, allowed: Sequence[str], place: str, kid: str | None = None
) -> VerificationKey:
    """Tie `key` to those of the `allowed` algorithms that fit its type, and for EC its curve.

    :raises ConfigurationError: if the key is weak, of an unknown type, or fits none of them; begins
        with `place`.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415

    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        raise ConfigurationError(f"{place}: {type(key).__name__} is not an RSA, EC or EdDSA key")
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise ConfigurationError(
            f"{place}: the RSA key has {key.key_size} bits; at least {LEAST_RSA_BITS} are needed"
        )
    kind, fitting = _algorithms_of(key)
    algorithms = tuple(name for name in allowed if name in fitting)
    if not algorithms:
        fits = f"it verifies {', '.join(fitting)}" if fitting else "no algorithm here uses it"
        raise ConfigurationError(f"{place}: holds an {kind} key: {fits}; allowed: {', '.join(allowed)}")
    return VerificationKey(key, algorithms, kid)


def _algorithms_of(key: PublicKey) -> tuple[str, tuple[str, ...]]:
    """Name the key's kind, and the algorithms of RFC 7518 section 3.1 and RFC 8037 that fit it."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415

    if isinstance(key, RSAPublicKey):
        return "RSA", ("RS256", "RS384", "RS512")
    if isinstance(key, EllipticCurvePublicKey):
        by_curve = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
        return f"EC {key.curve.name}", by_curve.get(key.curve.name, ())
    return "EdDSA", ("EdDSA",)
