"""Verifies client tokens: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises.

PyJWT checks the signature, where the fast path leaves it to PyJWT. Times are checked here, against the clock that was injected; so are the
other claims.
"""

from collections.abc import Iterator, Mapping

import attrs
import trio

from broker.auth.claims import MAX_TOKEN_CHARACTERS, check_times, parse_claims, unauthorized, with_payload
from broker.auth.issuers import TrustedIssuer, unverified_issuer
from broker.auth.keys import KeyRing, Keys, KeySource, issuer_place, key_source, load_keys
from broker.auth.pending import KeysPending
from broker.auth.remote_keys import RemoteKeySets
from broker.auth.revocations import RevocationTable
from broker.config.settings import AuthSettings, IssuerSettings
from broker.config.token_keys import has_own_keys
from broker.errors import RefusalReason
from broker.model import Claims, WallClock

KEYS_PATIENCE_SECONDS = 5.0
"""How long a client waits for the keys of its token's issuer to be fetched."""


def open_verifier(
    settings: AuthSettings,
    *,
    wall_clock: WallClock,
    remote: RemoteKeySets | None = None,
    revocations: RevocationTable | None = None,
    keeps_payload: bool = False,
) -> "TokenVerifier":
    """Load the keys that `settings` name and return what verifies tokens with them, and refuses those in `revocations`.

    With `keeps_payload`, `Claims.payload` has all claims of a token. `remote` has the keys that are fetched, without which settings with such keys cannot be used.

    :raises ConfigurationError: as `broker.auth.keys.load_keys`.
    """

    def trust(of: AuthSettings | IssuerSettings, ring: KeyRing) -> TrustedIssuer:
        source = key_source(of)
        keys: Keys = ring
        if source is not None:
            assert remote is not None, "keys are fetched while a server runs"
            keys = remote.open(source)
        return TrustedIssuer.of(of, ring, keys)

    # All files before the first fetch, so that settings which cannot be used begin none.
    own = load_keys(settings) if has_own_keys(settings) else None
    rings = [(entry, load_keys(entry, issuer_place(index))) for index, entry in enumerate(settings.issuers)]
    return TokenVerifier(
        own=None if own is None else trust(settings, own),
        issuers={entry.issuer: trust(entry, ring) for entry, ring in rings},
        leeway_seconds=settings.leeway_seconds,
        info_bytes=settings.info_bytes,
        wall_clock=wall_clock,
        revocations=RevocationTable(wall_clock) if revocations is None else revocations,
        keeps_payload=keeps_payload,
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


@attrs.frozen
class Signer:
    """The issuer and the key of a token."""

    issuer: str | None
    """The `iss` of the issuer; None for that of `[auth]` itself."""
    key: str


@attrs.frozen(kw_only=True)
class TokenVerifier:
    """Turns a token into claims, or refuses it. Safe to share between tasks."""

    _own: TrustedIssuer | None
    """That of `[auth]` itself, for tokens whose `iss` is none of the issuers."""
    _issuers: Mapping[str, TrustedIssuer]
    _leeway_seconds: float
    _info_bytes: int
    _wall_clock: WallClock
    _revocations: RevocationTable
    _keeps_payload: bool = False

    def verify(self, token: str | None) -> Claims:
        """Return what `token` says, if a key of its issuer signed it, and it is in force, meant for us and not taken back.

        `Claims.expires_at` is `exp` itself; the leeway of `auth.leeway_seconds` comes on top of it.

        :raises KeysPending: if its key may be among those that are being fetched.
        :raises Disconnect: 4001 for everything else; the reason helps a developer and holds nothing of the
            token.
        """
        if not token:
            raise unauthorized("token is missing", RefusalReason.TOKEN_MISSING)
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise unauthorized(
                f"token is longer than {MAX_TOKEN_CHARACTERS} characters", RefusalReason.TOKEN_MALFORMED
            )
        issuer = self._issuer_of(token)
        payload = issuer.signed_payload(token)
        check_times(payload, now=self._wall_clock(), leeway_seconds=self._leeway_seconds)
        claims = parse_claims(issuer.claims_of(payload), info_bytes=self._info_bytes)
        if self._revocations.revokes(claims):
            raise unauthorized("token was revoked", RefusalReason.TOKEN_REVOKED)
        return with_payload(claims, payload) if self._keeps_payload else claims

    def signer_of(self, token: str) -> Signer:
        """Return who signed a token that `verify` has just accepted."""
        issuer = self._issuer_of(token)
        return Signer(None if issuer is self._own else issuer.issuer, issuer.key_name(token))

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """The sources of the keys that are fetched."""
        return tuple(issuer.source for issuer in self._all() if issuer.source is not None)

    @property
    def lacks_keys(self) -> bool:
        """Whether it can verify no token at all, as keys that are fetched have not come yet."""
        return all(issuer.lacks_keys for issuer in self._all())

    def seconds_left(self, claims: Claims) -> float | None:
        """Return the seconds until `Claims.expires_at`, negative within the leeway; None if there is no end."""
        return None if claims.expires_at is None else claims.expires_at - self._wall_clock()

    def _all(self) -> Iterator[TrustedIssuer]:
        if self._own is not None:
            yield self._own
        yield from self._issuers.values()

    def _issuer_of(self, token: str) -> TrustedIssuer:
        found = None
        if self._issuers:
            name = unverified_issuer(token)
            found = None if name is None else self._issuers.get(name)
        issuer = found or self._own
        if issuer is None:
            raise unauthorized("token is from another issuer (iss)", RefusalReason.TOKEN_ISSUER)
        return issuer
