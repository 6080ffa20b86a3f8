"""The checks of `[[http.api_keys]]`. Pure."""

from collections.abc import Callable, Iterator

from broker.config.scopes import read_grant
from broker.config.settings import ApiKeySettings, HttpSettings

SINGLE_KEY = "http.api_key"
"""The name of the single key in the log, which no other key may have."""

NO_HEADER_WORD = "printable ASCII without blanks, as it travels in a header"

Flaw = tuple[str, str]
"""The path of a setting, and the problem with its value."""


def is_header_word(key: str) -> bool:
    """Whether a key can be sent as a bearer token (RFC 9110 section 5.5)."""
    return all("!" <= character <= "~" for character in key)


def api_key_problems(http: HttpSettings, *, weakness: Callable[[str], str | None] | None) -> Iterator[Flaw]:
    """Return what is wrong with the named keys; `weakness` tells why a key can be guessed, None to let weak ones pass."""
    names: set[str] = {SINGLE_KEY}
    # An empty key is missing.
    owners = {key: SINGLE_KEY for key in (http.api_key, http.previous_api_key, http.metrics_key) if key}
    for index, entry in enumerate(http.api_keys):
        path = f"http.api_keys[{index}]"
        if entry.name in names:
            yield (
                f"{path}.name",
                f"{entry.name} is the name of another key: the log could not tell them apart",
            )
        names.add(entry.name)
        for name, message in _flaws_of_secrets(entry, weakness):
            yield f"{path}.{name}", message
        for name in ("key", "previous_key"):
            if not (secret := getattr(entry, name)):
                continue
            if secret in owners:
                yield (
                    f"{path}.{name}",
                    f"is the same as that of {owners[secret]}: each key must be of its own",
                )
            owners[secret] = path
        for scope in entry.scopes:
            try:
                read_grant(scope)
            except ValueError as error:
                yield f"{path}.scopes", f"{scope!r} {error}"


def _flaws_of_secrets(entry: ApiKeySettings, weakness: Callable[[str], str | None] | None) -> Iterator[Flaw]:
    if not entry.key:
        yield (
            "key",
            "missing; set key to at least 16 random bytes, or key_file to the name of a file with them",
        )
    for name in ("key", "previous_key"):
        secret = getattr(entry, name)
        if not secret or secret != secret.strip():
            continue
        if not is_header_word(secret):
            yield name, NO_HEADER_WORD
        elif weakness is not None and (why := weakness(secret)):
            yield name, f"{why}; at least 16 random bytes are needed"
