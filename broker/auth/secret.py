"""The requirements of a shared secret that signs tokens."""

from broker.errors import ConfigurationError

SECRET = "auth.secret (GREENROOM_SECRET)"  # noqa: S105  # the name of a setting


def is_shared_secret(algorithm: str) -> bool:
    """Whether one secret both signs and verifies under `algorithm` (HS256, HS384, HS512)."""
    return algorithm in {"HS256", "HS384", "HS512"}


def check_secret(secret: str | None, algorithm: str, *, setting: str = SECRET) -> bytes:
    """Return the bytes of `secret` if it is long enough for `algorithm`, one of HS256, HS384, HS512.

    RFC 7518 section 3.2: a key at least as long as the hash it feeds. Shorter ones can be guessed from
    a single token (RFC 8725 section 3.5). `setting` is its name in messages.

    :raises ConfigurationError: if it is missing, too short or not text; says how to make a good one.
    """
    least_bytes = int(algorithm.removeprefix("HS")) // 8
    how_to_make = f"make one with: python3 -c 'import secrets; print(secrets.token_hex({least_bytes}))'"
    if not secret:
        raise ConfigurationError(f"{setting} is missing: it verifies {algorithm} tokens; {how_to_make}")
    try:
        key = secret.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{setting} is not valid UTF-8") from None
    if len(key) < least_bytes:
        raise ConfigurationError(
            f"{setting} has {len(key)} bytes, but {algorithm} needs at least {least_bytes}; {how_to_make}"
        )
    return key
