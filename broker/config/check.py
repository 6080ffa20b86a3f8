"""The checks of settings before a start. Pure: no file is opened."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import attrs
import msgspec

from broker.config.findings import path_of
from broker.config.flaws import flaw_of, flaw_of_pattern
from broker.config.keys import SHORT_VARIABLES, read_schema, tables_of
from broker.config.named_keys import NO_HEADER_WORD, api_key_problems, is_header_word
from broker.config.origins import ANY, OPAQUE, normal_origin
from broker.config.problems import Problem
from broker.config.settings import AuthSettings, IssuerSettings, Settings
from broker.config.token_keys import algorithm_flaws, has_own_keys, issuer_flaws, key_url_flaws
from broker.config.webhooks import hook_problems, webhook_problems

API_KEY_BYTES = 16

HOW_TO_MAKE_ONE = 'python -c "import secrets; print(secrets.token_urlsafe(48))", or: openssl rand -base64 48'

_NO_ORIGINS: Mapping[str, str] = MappingProxyType({})


def check_settings(
    settings: Settings,
    *,
    dev: bool,
    engine_schemes: Collection[str],
    origins: Mapping[str, str] = _NO_ORIGINS,
) -> list[Problem]:
    """Return every reason not to start with `settings`; an empty list when there is none.

    `engine_schemes` are those that this build can open (`memory`). With `dev`, secrets may be missing
    or weak: they are generated, or belong to a server that only its own machine reaches.
    """
    checker = _Checker(settings, engine_schemes, origins)
    problems = [
        *find_flaws(settings, origins=origins),
        *checker.keys(),
        *checker.previous(),
        *checker.token_keys(),
        *checker.cookie(),
        *checker.engine(),
        *checker.tls(),
        *checker.page_origins(),
        *checker.named_keys(dev=dev),
        *checker.hooks(),
        *checker.webhooks(),
    ]
    return problems if dev else [*checker.secrets(), *problems]


PATTERNS = frozenset({"rooms.pattern", "hooks.rooms", "webhooks.rooms"})
"""Patterns of rooms, whose names may have blanks and quotes."""


def find_flaws(settings: Settings, *, origins: Mapping[str, str] = _NO_ORIGINS) -> Iterator[Problem]:
    """Find values that cannot be meant, for any use: see `broker.config.flaws`."""
    schema = read_schema(Settings)
    for key in schema.plain_keys():
        flaw = flaw_of(key, getattr(getattr(settings, key.section), key.name))
        if flaw is not None:
            yield Problem(place_of(key.dotted, origins), flaw)
    for dotted, keys in schema.lists.items():
        for index, table in enumerate(tables_of(settings, dotted)):
            for key in keys.values():
                if key.dotted in PATTERNS:
                    continue
                flaw = flaw_of(key, getattr(table, key.name))
                if flaw is not None:
                    yield Problem(place_of(path_of(key, index), origins), flaw)
    patterns = [rule.pattern for rule in settings.rooms]
    for index, pattern in enumerate(patterns):
        flaw = flaw_of_pattern(pattern, patterns[:index])
        if flaw is not None:
            yield Problem(place_of(f"rooms[{index}].pattern", origins), flaw)


def with_normal_origins(settings: Settings) -> Settings:
    """Return checked settings with the origins of pages written as browsers send them."""
    websocket, http = settings.websocket, settings.http
    allowed = tuple(map(normal_origin, websocket.allowed_origins))
    cors = tuple(map(normal_origin, http.cors_origins))
    return msgspec.structs.replace(
        settings,
        websocket=msgspec.structs.replace(websocket, allowed_origins=allowed),
        http=msgspec.structs.replace(http, cors_origins=cors),
    )


def hmac_algorithms(auth: AuthSettings | IssuerSettings) -> list[str]:
    """Return those of the allowed algorithms that the shared secret both signs and verifies."""
    return [algorithm for algorithm in auth.algorithms if algorithm.startswith("HS")]


def weakness(secret: str, *, least: int) -> str | None:
    """Return why `secret` can be guessed, None if nothing shows. `least` is in bytes of UTF-8.

    Few different bytes, or one short piece again and again, are what people type to get past a length.
    """
    # Lone surrogates are reported as another flaw.
    held = secret.encode(errors="surrogatepass")
    if not held:
        return "missing"
    if len(held) < least:
        return f"too short: {len(held)} of {least} bytes"
    if len(set(held)) * 4 < least:
        return f"too weak: only {len(set(held))} different bytes"
    if (held + held).find(held, 1) < len(held):
        return "too weak: one piece repeated"
    return None


def _least_secret_bytes(auth: AuthSettings | IssuerSettings) -> int:
    """RFC 7518 section 3.2: a key is at least as long as the hash it feeds, 32 bytes for HS256."""
    return max(int(algorithm.removeprefix("HS")) // 8 for algorithm in hmac_algorithms(auth) or ["HS256"])


def _weakness_of_key(key: str) -> str | None:
    return weakness(key, least=API_KEY_BYTES)


def place_of(key: str, origins: Mapping[str, str]) -> str:
    """Return where a key was set, as a problem names it."""
    origin = origins.get(key, "default")
    return key if origin == "default" else f"{origin}: {key}"


@attrs.frozen
class _Checker:
    settings: Settings
    engine_schemes: Collection[str]
    origins: Mapping[str, str]

    def problem(self, key: str, message: str) -> Problem:
        return Problem(place_of(key, self.origins), message)

    def secrets(self) -> Iterator[Problem]:
        auth, http = self.settings.auth, self.settings.http
        if hmac_algorithms(auth) and has_own_keys(auth):
            yield from self.secret("auth.secret", auth.secret, _least_secret_bytes(auth))
            if auth.previous_secret:
                least = _least_secret_bytes(auth)
                yield from self.secret("auth.previous_secret", auth.previous_secret, least)
        for index, entry in enumerate(auth.issuers):
            least = _least_secret_bytes(entry)
            for name in ("secret", "previous_secret"):
                if (secret := getattr(entry, name)) and (why := weakness(secret, least=least)):
                    message = f"{why}; at least {least} random bytes are needed"
                    yield self.problem(f"auth.issuers[{index}].{name}", message)
        # With keys that may do some things, none that may do everything is needed.
        if http.api_key or not http.api_keys:
            yield from self.secret("http.api_key", http.api_key, API_KEY_BYTES)
        for name in ("previous_api_key", "metrics_key", "previous_metrics_key"):
            if key := getattr(http, name):
                yield from self.secret(f"http.{name}", key, API_KEY_BYTES)

    def previous(self) -> Iterator[Problem]:
        """Check that no previous key stands alone: without a key of its own, /metrics would be open to all."""
        http = self.settings.http
        for name in ("api_key", "metrics_key"):
            is_optional = name == "metrics_key" or http.api_keys
            if is_optional and getattr(http, f"previous_{name}") and not getattr(http, name):
                yield self.problem(f"http.previous_{name}", f"needs http.{name}, which takes its place")

    def named_keys(self, *, dev: bool) -> Iterator[Problem]:
        """Check `[[http.api_keys]]`."""
        for path, message in api_key_problems(self.settings.http, weakness=None if dev else _weakness_of_key):
            yield self.problem(path, message)

    def hooks(self) -> Iterator[Problem]:
        """Check `[[hooks]]`, likewise in a trial."""
        for path, message in hook_problems(self.settings.hooks):
            yield self.problem(path, message)

    def webhooks(self) -> Iterator[Problem]:
        """Check `[[webhooks]]`; a weak secret is one in a trial too, as the application has to be told it."""
        for path, message in webhook_problems(self.settings.webhooks):
            yield self.problem(path, message)

    def keys(self) -> Iterator[Problem]:
        """Check the keys that HTTP clients present, which must fit into a header (RFC 9110 section 5.5)."""
        for name in ("api_key", "previous_api_key", "metrics_key", "previous_metrics_key"):
            key = getattr(self.settings.http, name)
            if key and not is_header_word(key) and key.strip() == key:
                yield self.problem(f"http.{name}", NO_HEADER_WORD)

    def secret(self, key: str, secret: str | None, least: int) -> Iterator[Problem]:
        why = weakness(secret or "", least=least)
        if why:
            yield self.problem(
                key,
                f"{why}; set {SHORT_VARIABLES[key]} to at least {least} random bytes, or {SHORT_VARIABLES[key]}_FILE "
                f"to the name of a file with them, made for example by: {HOW_TO_MAKE_ONE} (--dev makes one up for a trial)",
            )

    def token_keys(self) -> Iterator[Problem]:
        auth = self.settings.auth
        for name, message in (*algorithm_flaws(auth), *key_url_flaws(auth), *issuer_flaws(auth)):
            yield self.problem(f"auth.{name}", message)

    def cookie(self) -> Iterator[Problem]:
        """Check that a cookie counts for listed pages only: browsers send it for every page there is."""
        origins = {origin.strip().lower() for origin in self.settings.websocket.allowed_origins}
        if self.settings.auth.cookie is not None and (not origins or origins & {ANY, *OPAQUE}):
            message = (
                "needs a list of origins in websocket.allowed_origins, without *, null and file://: "
                "browsers send a cookie for pages of strangers too (RFC 6455 section 10.2)"
            )
            yield self.problem("auth.cookie", message)

    def engine(self) -> Iterator[Problem]:
        scheme, separator, _ = self.settings.server.engine.partition("://")
        if not separator or scheme not in self.engine_schemes:
            known = ", ".join(f"{one}://" for one in sorted(self.engine_schemes))
            is_shown = separator and scheme.isalnum() and len(scheme) < 20
            asked = f"{scheme}://" if is_shown else "another" if separator else "a value without ://"
            yield self.problem("server.engine", f"must begin with one of {known}; got {asked}")

    def tls(self) -> Iterator[Problem]:
        """Check that a certificate has its key, and that clients' certificates have TLS to be shown in."""
        server = self.settings.server
        if server.tls_cert_file is None and server.tls_key_file is not None:
            yield self.problem("server.tls_cert_file", "missing: server.tls_key_file is the key of one")
        if server.tls_key_file is None and server.tls_cert_file is not None:
            yield self.problem("server.tls_key_file", "missing: server.tls_cert_file needs its key")
        if server.tls_client_ca_file is not None and server.tls_cert_file is None:
            yield self.problem(
                "server.tls_client_ca_file", "needs server.tls_cert_file and server.tls_key_file"
            )

    def page_origins(self) -> Iterator[Problem]:
        for key, origins in (
            ("websocket.allowed_origins", self.settings.websocket.allowed_origins),
            ("http.cors_origins", self.settings.http.cors_origins),
        ):
            for origin in origins:
                try:
                    normal_origin(origin)
                except ValueError as error:
                    yield self.problem(key, f"{origin!r} {error}")
