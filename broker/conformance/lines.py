"""The lines that a client under test prints: one JSON object for each thing that its application is told. Pure."""

from typing import TypeAlias, cast, get_args

import attrs
import msgspec

from broker.conformance.steps import LineKind


@attrs.frozen
class Handed:
    """A chat that was handed to the application."""

    text: str


@attrs.frozen
class HandedGap:
    """The application was told that events may be missing."""


@attrs.frozen
class Told:
    """Another thing that the application was told."""

    kind: LineKind
    value: object


Line: TypeAlias = Handed | HandedGap | Told


def parse_line(text: str) -> Line | None:
    """Return what a line says; None if it is none of ours, which a client may print as well."""
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if not isinstance(fields, dict):
        return None
    if "event" in fields:
        event = fields["event"]
        is_chat = isinstance(event, dict) and isinstance(event.get("text"), str)
        return Handed(event["text"]) if is_chat else None
    if "gap" in fields:
        return HandedGap()
    for kind in get_args(LineKind):
        if kind in fields:
            return Told(cast("LineKind", kind), fields[kind])
    return None
