"""The checks of `[[hooks]]` and `[[webhooks]]`, whose requests are signed in the same way. Pure."""

from collections.abc import Iterator, Sequence

from broker.config.flaws import flaw_of_pattern
from broker.config.settings import HookSettings, WebhookSettings
from broker.config.urls import check_url
from broker.errors import ConfigurationError
from broker.signatures import LEAST_KEY_BYTES, read_secret

HOW_TO_MAKE_ONE = "echo whsec_$(openssl rand -base64 32)"

Flaw = tuple[str, str]
"""The path of a setting, and the problem with its value."""


def webhook_problems(webhooks: Sequence[WebhookSettings]) -> Iterator[Flaw]:
    """Return what is wrong with the webhooks."""
    names: set[str] = set()
    for index, webhook in enumerate(webhooks):
        path = f"webhooks[{index}]"
        if webhook.name in names:
            yield (
                f"{path}.name",
                f"{webhook.name} is the name of another webhook: each has a queue of its own",
            )
        names.add(webhook.name)
        for name, message in _flaws_of(webhook):
            yield f"{path}.{name}", message


def hook_problems(hooks: Sequence[HookSettings]) -> Iterator[Flaw]:
    """Return what is wrong with the hooks."""
    for index, hook in enumerate(hooks):
        path = f"hooks[{index}]"
        for name, message in _flaws_of(hook):
            yield f"{path}.{name}", message
        if set(hook.on) == {"connect"} and hook.rooms != ("*",):
            yield f"{path}.rooms", "has no meaning for connect, which is of no room"


def flaw_of_secret(secret: str) -> str | None:
    """Return why a text is no secret that signs requests, None if it is one. The text never holds it."""
    try:
        key = read_secret(secret)
    except ConfigurationError as error:
        return f"{error}, made for example by: {HOW_TO_MAKE_ONE}"
    if len(set(key)) * 4 < LEAST_KEY_BYTES:
        return f"too weak: only {len(set(key))} different bytes"
    return None


def _flaws_of(webhook: HookSettings | WebhookSettings) -> Iterator[Flaw]:
    try:
        check_url(webhook.url, example="https://app.example/greenroom")
    except ValueError as error:
        yield "url", str(error)
    if not webhook.secret:
        yield "secret", f"missing; set secret or secret_file, made for example by: {HOW_TO_MAKE_ONE}"
    for name in ("secret", "previous_secret"):
        secret = getattr(webhook, name)
        # Blanks around it are found with those of all settings.
        if secret and secret == secret.strip() and (flaw := flaw_of_secret(secret)):
            yield name, flaw
    for pattern in webhook.rooms:
        if flaw := flaw_of_pattern(pattern):
            yield "rooms", f"{pattern!r} {flaw}"
