"""Variables that begin with `GREENROOM_` and are not ours, as Kubernetes and Docker derive from a service's name. Pure."""

import re
from difflib import SequenceMatcher

from broker.config.keys import Schema

PREFIX = "GREENROOM_"

_ANY = r"(?:[A-Z0-9_]+_)?"

# Kubernetes makes these for each service of a namespace (service "greenroom", "greenroom-redis"), as Docker does for
# links and container names.
_OF_SERVICES = re.compile(
    rf"{PREFIX}{_ANY}(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR|START|END))?)"
)
_PORT = re.compile(rf"{PREFIX}{_ANY}PORT")
_PORT_VALUE = re.compile(r"(?:tcp|udp|sctp)://")
_LINK_NAME = re.compile(rf"{PREFIX}{_ANY}NAME")
_LINK_ENVIRONMENT = re.compile(rf"{PREFIX}(?:\d+_)?ENV_.+")

LIKENESS = 0.75
"""Similarity from which an unknown name counts as a mistyped one of ours."""


def is_foreign(variable: str, value: str, schema: Schema) -> bool:
    """Whether a variable that sets no key is not ours, and not a mistyped one of ours."""
    if _OF_SERVICES.fullmatch(variable) or _LINK_ENVIRONMENT.fullmatch(variable):
        return True
    if _PORT.fullmatch(variable) and _PORT_VALUE.match(value):
        return True
    if _LINK_NAME.fullmatch(variable) and value.startswith("/"):
        return True
    # Two underscores are how our variables are made.
    return "__" not in variable and not _is_like_ours(variable.removeprefix(PREFIX), schema)


def _is_like_ours(asked: str, schema: Schema) -> bool:
    """Whether a name is similar to a key, to its variable, or to section and key with one underscore."""
    name = asked.lower().strip("_")
    if not name or name.partition("_")[0] in schema.lists:
        return True
    # Every service has a password: GREENROOM_DB_PASSWORD is no slip in ours.
    keys = [
        key
        for key in schema.known_keys()
        if "password" not in key.name or name == key.name or _begins_like(name, key.section)
    ]
    ours = {key.name for key in keys}
    ours |= {f"{key.section}_{key.name}" for key in keys}
    ours |= {key.variable.removeprefix(PREFIX).lower() for key in keys}
    return any(_likeness(name, one) >= LIKENESS for one in ours)


def _begins_like(name: str, section: str) -> bool:
    return _likeness(name[: len(section)], section) >= LIKENESS


def _likeness(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, one, other)
    return matcher.ratio() if matcher.real_quick_ratio() >= LIKENESS else 0.0
