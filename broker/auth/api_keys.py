"""The keys that callers of the HTTP API present, and the decision about each call. Pure."""

import hmac
from collections.abc import Iterator, Sequence
from hashlib import sha256

import attrs

from broker.auth.bearer import bearer_credentials
from broker.config.named_keys import NO_HEADER_WORD, SINGLE_KEY, is_header_word
from broker.config.scopes import EVERYTHING, Grant, Scope, read_grant
from broker.config.settings import HttpSettings
from broker.errors import ConfigurationError, ErrorCode, RefusalReason, Refused


@attrs.frozen
class Caller:
    """The bearer of an API key."""

    name: str
    """The name of the key."""
    grants: tuple[Grant, ...]
    uses_previous: bool = attrs.field(default=False, eq=False)
    """Whether the key is one that is being replaced."""

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields that name the key in a log line; none for the single key, as there every line would have them."""
        return {} if self.name == SINGLE_KEY else {"key_name": self.name}

    def check(self, scope: Scope, room: str | None = None) -> None:
        """Check that the caller may make a call that needs `scope` in `room`; None stands for every room.

        :raises Refused: `forbidden` if not, with the name of the key and the scope.
        """
        for grant in self.grants:  # A loop, as each post pays for it.
            if grant.allows(scope, room):
                return
        where = " in this room" if room is not None else " in every room"
        raise Refused(
            ErrorCode.FORBIDDEN,
            f"the API key {self.name} may not do this: it lacks the scope {scope}"
            f"{where if self.may_somewhere(scope) else ''}",
            why=RefusalReason.API_KEY_SCOPE,
        )

    def check_somewhere(self, scope: Scope) -> None:
        """Check that the caller has `scope` in some rooms; the call checks each of its rooms with `check`.

        :raises Refused: `forbidden` if not.
        """
        if not self.may_somewhere(scope):
            self.check(scope)

    def may_somewhere(self, scope: Scope) -> bool:
        """Whether the caller has `scope` in some rooms."""
        return any(grant.scope is scope for grant in self.grants)


@attrs.frozen
class Need:
    """The scope that a route needs."""

    scope: Scope
    in_each_room: bool = False
    """Whether the rooms are in the content of the request, so that the route checks each with `Caller.check`."""

    def check(self, caller: Caller, room: str | None) -> None:
        """Check that `caller` may call the route; `room` is the room in its path, None if it has none.

        :raises Refused: `forbidden` if not.
        """
        if self.in_each_room:
            caller.check_somewhere(self.scope)
        else:
            caller.check(self.scope, room)


PUBLISH, READ, ADMIN = Need(Scope.PUBLISH), Need(Scope.READ), Need(Scope.ADMIN)
PUBLISH_IN_EACH = Need(Scope.PUBLISH, in_each_room=True)


@attrs.frozen
class _Held:
    digest: bytes = attrs.field(repr=False)
    caller: Caller


@attrs.define
class ApiKeys:
    """The API keys of the settings; holds their SHA-256 only.

    :raises ConfigurationError: if a key could not be sent in a header.
    """

    _held: tuple[_Held, ...]

    @classmethod
    def from_settings(cls, settings: HttpSettings) -> "ApiKeys":
        """Return the keys that `settings` name.

        :raises ConfigurationError: if a key could not be sent in a header, or a scope is none.
        """
        return cls(tuple(_hold(settings)))

    def replace(self, settings: HttpSettings) -> None:
        """Accept the keys of `settings` instead, from now on.

        :raises ConfigurationError: as `from_settings`; nothing is changed then.
        """
        self._held = tuple(_hold(settings))

    def identify(self, authorization: str | None) -> Caller | None:
        """Return who presents a key in an Authorization header; None if it presents none of ours.

        All keys are compared, each in constant time: their digests have one length.
        """
        presented = None if authorization is None else bearer_credentials(authorization)
        if presented is None:
            return None
        digest = _digest(presented)
        found = None
        for held in self._held:
            if hmac.compare_digest(digest, held.digest):
                found = held.caller
        return found


def _hold(settings: HttpSettings) -> Iterator[_Held]:
    for key in settings.api_keys:
        grants = tuple(map(_grant, key.scopes))
        yield from _hold_one(key.name, grants, key.key, key.previous_key)
    yield from _hold_one(SINGLE_KEY, EVERYTHING, settings.api_key, settings.previous_api_key)


def _hold_one(name: str, grants: Sequence[Grant], key: str | None, previous: str | None) -> Iterator[_Held]:
    for secret, is_previous in ((previous, True), (key, False)):
        if not secret:
            continue
        if not is_header_word(secret):
            raise ConfigurationError(f"{name}: {NO_HEADER_WORD}")
        yield _Held(_digest(secret), Caller(name, tuple(grants), is_previous))


def _grant(text: str) -> Grant:
    try:
        return read_grant(text)
    except ValueError as error:
        raise ConfigurationError(f"http.api_keys: {text!r} {error}") from None


def _digest(key: str) -> bytes:
    # Surrogates must not raise.
    return sha256(key.encode(errors="surrogatepass")).digest()
