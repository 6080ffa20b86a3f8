"""The checks of the settings that name the keys of tokens. Pure."""

from collections.abc import Iterator

from broker.config.key_urls import check_key_url, discovery_url
from broker.config.settings import AuthSettings, IssuerSettings

KeySettings = AuthSettings | IssuerSettings

Flaw = tuple[str, str]
"""The name of a setting within its table, and the problem with its value."""


def has_own_keys(auth: AuthSettings) -> bool:
    """Whether `[auth]` itself verifies tokens: with `[[auth.issuers]]` it need not."""
    return not auth.issuers or bool(auth.secret) or bool(public_key_settings(auth))


def public_key_settings(auth: KeySettings, place: str = "auth") -> list[str]:
    """Return the settings at `place` that name public keys; at most one may."""
    named = {
        f"{place}.public_key_file": auth.public_key_file,
        f"{place}.jwks_file": auth.jwks_file,
        f"{place}.jwks_url": auth.jwks_url,
        f"{place}.discovery": auth.discovery or None,
    }
    return [name for name, value in named.items() if value is not None]


def algorithm_flaws(auth: KeySettings) -> Iterator[Flaw]:
    """Return what is wrong with the algorithms together with the keys."""
    by_secret = [name for name in auth.algorithms if name.startswith("HS")]
    by_key = [name for name in auth.algorithms if name not in by_secret]
    named = public_key_settings(auth)
    if by_key and by_secret:
        message = (
            f"{by_key[0]} and {by_secret[0]} together would let who knows a public key sign tokens "
            "(RFC 8725 section 2.1): keep HS* or the others"
        )
        yield "algorithms", message
    if by_key and not named:
        yield (
            "algorithms",
            f"{by_key[0]} needs auth.public_key_file, auth.jwks_file, auth.jwks_url or auth.discovery",
        )
    if named and not by_key:
        yield (
            named[0].removeprefix("auth."),
            "no algorithm uses it: name its own in auth.algorithms, such as RS256 or EdDSA",
        )


def key_url_flaws(auth: KeySettings) -> Iterator[Flaw]:
    """Return what is wrong with the addresses of keys."""
    if auth.jwks_url is not None:
        try:
            check_key_url(auth.jwks_url)
        except ValueError as error:
            yield "jwks_url", str(error)
    if auth.discovery and auth.issuer is None:
        yield "discovery", "needs auth.issuer, the address whose metadata name the keys"
    elif auth.discovery and auth.issuer is not None:
        try:
            check_key_url(discovery_url(auth.issuer))
        except ValueError as error:
            yield "issuer", f"{error}; with auth.discovery it is an address"


def issuer_flaws(auth: AuthSettings) -> Iterator[Flaw]:
    """Return what is wrong with `[[auth.issuers]]`, but for weak secrets."""
    names = {auth.issuer} if has_own_keys(auth) else set()
    for index, entry in enumerate(auth.issuers):
        place = f"issuers[{index}]"
        if entry.issuer in names:
            yield f"{place}.issuer", "is an issuer twice: a token's iss chooses its keys"
        names.add(entry.issuer)
        if not entry.secret and any(name.startswith("HS") for name in entry.algorithms):
            yield f"{place}.secret", "missing: it verifies HS* tokens; set secret or secret_file"
        if entry.secret and not any(name.startswith("HS") for name in entry.algorithms):
            yield f"{place}.secret", "no algorithm uses it: name HS256 in algorithms"
        for name, message in (*algorithm_flaws(entry), *key_url_flaws(entry)):
            yield f"{place}.{name}", message
