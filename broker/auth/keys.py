"""Loads the keys that verify tokens, and chooses the key of a token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

from broker.auth.binding import VerificationKey, bind_public_key
from broker.auth.jwks import read_jwks
from broker.auth.secret import SECRET, check_secret, is_shared_secret
from broker.config.key_urls import discovery_url
from broker.config.settings import AuthSettings
from broker.config.token_keys import KeySettings, has_own_keys, public_key_settings
from broker.errors import CloseCode, ConfigurationError, Disconnect, RefusalReason

PREVIOUS_SECRET = "auth.previous_secret (GREENROOM_PREVIOUS_SECRET)"  # noqa: S105  # the name of a setting

PARTS_OF_PUBLIC_KEYS = (b"BEGIN ", b"ssh", b"ecdsa")
"""Each key or certificate that PyJWT refuses as a secret holds one of them: PEM, and the formats of OpenSSH."""

MAX_FILE_BYTES = 1 << 20
"""Limit for a key file: reading a device such as /dev/zero would never end."""


class Keys(Protocol):
    """Keys that verify tokens."""

    def choose(self, *, algorithm: object, kid: object) -> VerificationKey:
        """See `KeyRing.choose`."""
        ...


@attrs.frozen
class KeySource:
    """The address of a key set, and the algorithms that its keys may be used with."""

    url: str
    algorithms: tuple[str, ...]
    discovers: str | None = None
    """The issuer whose metadata are at `url` and name the address of the keys; None if the keys are at `url`."""

    @property
    def shown_url(self) -> str:
        """The address for the log: a query may hold a key."""
        return self.url.partition("?")[0]


@attrs.frozen
class KeyRing:
    """All keys that verify tokens. No two keys of one algorithm have the same `kid`."""

    keys: tuple[VerificationKey, ...]

    def choose(self, *, algorithm: object, kid: object) -> VerificationKey:
        """Return the key for a token with `alg` and `kid` in its header; neither value is verified yet.

        A token without `kid` is accepted if there is only one key for its algorithm, and so is any `kid` if that key has
        none (RFC 7515 section 4.1.4: `kid` is a hint).

        :raises Disconnect: 4001 if no key is for that algorithm, or if `kid` does not select one of several.
        """
        serving = [key for key in self.keys if algorithm in key.algorithms]
        if not serving:
            raise _no_key("token algorithm is not allowed here")
        if len(serving) == 1 and (kid is None or serving[0].kid is None):
            return serving[0]
        if kid is None:
            raise _no_key("token header needs a kid: several keys are in use")
        for key in serving:
            if key.kid == kid:
                return key
        raise _no_key("token header names an unknown key (kid)")


def _no_key(reason: str) -> Disconnect:
    return Disconnect(CloseCode.UNAUTHORIZED, reason, why=RefusalReason.TOKEN_KEY)


def load_keys(settings: KeySettings, place: str = "auth") -> KeyRing:
    """Load the secret and the public keys of the settings, but those of `key_source`. Blocks while it reads files.

    :raises ConfigurationError: if a key is missing, unreadable, weak, private or of the wrong type, or if an
        algorithm of `auth.algorithms` has no key; the text names the setting and the file.
    """
    shared = [name for name in settings.algorithms if is_shared_secret(name)]
    public = [name for name in settings.algorithms if not is_shared_secret(name)]
    keys = _load_public(settings, public, place)
    if public and key_source(settings) is not None:
        public = []
    served = {name for key in keys for name in key.algorithms}
    for name in public:
        if name not in served:
            raise ConfigurationError(
                f"{place}.algorithms: no key for {name}: "
                f"{place}.public_key_file or {place}.jwks_file must hold one that fits"
            )
    if shared:
        keys.append(_load_secrets(settings, shared, place))
    return KeyRing(tuple(keys))


def load_all_keys(auth: AuthSettings) -> None:
    """Load the keys of all issuers, to find what prevents a start. Blocks while it reads files.

    :raises ConfigurationError: as `load_keys`.
    """
    if has_own_keys(auth):
        load_keys(auth)
    for index, entry in enumerate(auth.issuers):
        load_keys(entry, issuer_place(index))


def issuer_place(index: int) -> str:
    """Return the name of an issuer's table in messages."""
    return f"auth.issuers[{index}]"


def key_source(settings: KeySettings) -> KeySource | None:
    """Return where the public keys of the settings are fetched from; None if they are in a file, or there are none."""
    algorithms = tuple(name for name in settings.algorithms if not is_shared_secret(name))
    if settings.jwks_url is not None:
        return KeySource(settings.jwks_url, algorithms)
    if settings.discovery:
        assert settings.issuer is not None, "checked with the settings"
        return KeySource(discovery_url(settings.issuer), algorithms, discovers=settings.issuer)
    return None


def _load_public(settings: KeySettings, allowed: Sequence[str], place: str) -> list[VerificationKey]:
    named = public_key_settings(settings, place)
    if len(named) > 1:
        raise ConfigurationError(f"{' and '.join(named)} are both set: use one of them")
    if named and not allowed:
        raise ConfigurationError(
            f"{named[0]} is set, but {place}.algorithms ({', '.join(settings.algorithms)}) uses no public key"
        )
    if settings.public_key_file is not None:
        return [_load_pem(settings.public_key_file, allowed, place)]
    if settings.jwks_file is not None:
        file = f"{place}.jwks_file {settings.jwks_file}"
        return list(read_jwks(_read(settings.jwks_file, file), allowed=allowed, place=file))
    return []


def _load_secrets(settings: KeySettings, algorithms: Sequence[str], place: str) -> VerificationKey:
    names = (SECRET, PREVIOUS_SECRET) if place == "auth" else (f"{place}.secret", f"{place}.previous_secret")
    key = _load_secret(settings.secret, algorithms, names[0])
    previous = None
    if settings.previous_secret:
        previous = _load_secret(settings.previous_secret, algorithms, names[1])
    return VerificationKey(key, tuple(algorithms), previous=previous)


def _load_secret(secret: str | None, algorithms: Sequence[str], setting: str) -> bytes:
    # The names of HS256, HS384 and HS512 sort by the length of secret that they require (RFC 7518 section 3.2).
    key = check_secret(secret, max(algorithms), setting=setting)
    if not any(part in key for part in PARTS_OF_PUBLIC_KEYS):
        return key
    from jwt import PyJWS  # noqa: PLC0415  # see binding.py
    from jwt.exceptions import PyJWTError  # noqa: PLC0415

    try:
        PyJWS().get_algorithm_by_name(algorithms[0]).prepare_key(key)
    except PyJWTError:
        raise ConfigurationError(
            f"{setting} is a public key or certificate, which is no secret: "
            "name its file in auth.public_key_file or auth.jwks_file"
        ) from None
    return key


def _load_pem(file: str, allowed: Sequence[str], table: str) -> VerificationKey:
    place = f"{table}.public_key_file {file}"
    data = _read(file, place)
    if b"PRIVATE KEY-----" in data:
        raise ConfigurationError(
            f"{place}: is a private key, which this server has no use for; "
            "make the public one with: openssl pkey -pubout"
        )
    if b"BEGIN CERTIFICATE-----" in data:
        raise ConfigurationError(f"{place}: is a certificate; take its key with: openssl x509 -pubkey -noout")
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # see binding.py
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{place}: is not a public key in PEM format") from None
    return bind_public_key(key, allowed=allowed, place=place)


def _read(file: str, place: str) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{place}: is not a file name: {error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{place}: is larger than 1 MiB, which no key is")
    return data
