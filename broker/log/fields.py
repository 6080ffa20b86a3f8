"""Fields of log lines: redacted values and short descriptions of exceptions."""

import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import PurePath

from actors.groups import leaves
from broker.config.keys import SHORT_VARIABLES

HIDDEN = "***"
HIDDEN_FIELDS = frozenset(
    {"token", "authorization", "text", "data", "body"}
    | {dotted.partition(".")[2] for dotted in SHORT_VARIABLES}
)

# A JSON Web Token begins with the base64 of `{"`; one may hide in a URL or in the text of an exception.
_TOKEN_BEGIN = "eyJ"  # noqa: S105  # no secret
_WORD = re.compile(r"[\w.-]+")
_INNERMOST_FRAMES = 3
_MOST_ERRORS_OF_GROUP = 5
_BIGGEST_JSON_INTEGER = 1 << 63


def redact(fields: Mapping[str, object]) -> dict[str, object]:
    """Return `fields` without secrets and message bodies, as values that JSON can hold.

    The last line of defence, not the first: it recognises secrets by the field's name, tokens also by their form, and
    shows of bytes and unknown objects only size or type.
    """
    return {
        _clean(str(name)): HIDDEN if _clean(str(name)).lower() in HIDDEN_FIELDS else _harmless(value)
        for name, value in fields.items()
    }


def exception_of(exc_info: object) -> BaseException | None:
    """Return the exception that `exc_info` stands for: itself, or True for the one being handled."""
    if isinstance(exc_info, BaseException):
        return exc_info
    return sys.exception() if exc_info else None


def describe_error(error: BaseException) -> dict[str, object]:
    """Return type, message and place of `error`; of a group, also those of the errors in it."""
    described = _describe_one(error)
    if isinstance(error, BaseExceptionGroup):
        parts = [_describe_one(leaf) for leaf in leaves(error)]
        described["errors"] = parts[:_MOST_ERRORS_OF_GROUP]
    return described


def format_fields(fields: Mapping[str, object], prefix: str = "") -> str:
    """Return harmless fields as `name=value name.inner=value`, on one line whatever they hold."""
    words = []
    for name, value in fields.items():
        full_name = prefix + _word(name)
        if isinstance(value, dict):
            words.append(format_fields(value, prefix=f"{full_name}."))
        else:
            words.append(f"{full_name}={_word(value)}")
    return " ".join(words)


def printable_lines(text: str) -> str:
    """Return `text` with line ends, and other control characters escaped."""
    return "\n".join(line if line.isprintable() else ascii(line) for line in text.split("\n"))


def _harmless(value: object) -> object:
    harmless: object
    match value:
        case None | bool() | float():
            harmless = value
        case str() | PurePath():
            harmless = _clean(str(value))
        case int():
            harmless = int(value) if abs(value) < _BIGGEST_JSON_INTEGER else str(value)
        case bytes() | bytearray() | memoryview():
            harmless = f"<{len(value)} bytes>"
        case BaseException():
            harmless = _clean(f"{type(value).__name__}: {value}")
        case Mapping():
            harmless = redact(value)
        case list() | tuple() | set() | frozenset():
            harmless = [_harmless(item) for item in value]
        case _:
            # Its repr may hold anything: that of the settings holds the secret.
            harmless = f"<{type(value).__name__}>"
    return harmless


def _clean(text: str) -> str:
    """Hide tokens, and escape lone surrogates, which cannot be written as UTF-8."""
    if _TOKEN_BEGIN in text:
        text = _WORD.sub(lambda word: _hide_tokens(word[0]), text)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _hide_tokens(word: str) -> str:
    """Hide tokens by their form: three parts with dots between them, of which the last may be empty.

    One expression for all of it would begin anew at each `eyJ` of a long part without a dot: in quadratic time.
    """
    parts = word.split(".")
    kept = []
    at = 0
    while at < len(parts):
        begin = parts[at].find(_TOKEN_BEGIN)
        if begin >= 0 and at + 2 < len(parts) and parts[at + 1]:
            kept.append(parts[at][:begin] + HIDDEN)
            at += 3
        else:
            kept.append(parts[at])
            at += 1
    return ".".join(kept)


def _word(value: object) -> str:
    """Quote a value with blanks, quotes or control characters."""
    text = str(value)
    plain = text and text.isprintable() and not any(character in text for character in " \"'=")
    return text if plain or not isinstance(value, str) else repr(text)


def _describe_one(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)[-_INNERMOST_FRAMES:]
    places = [f"{_short(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames)]
    described: dict[str, object] = {
        "type": type(error).__name__,
        "message": str(error),
        "at": " < ".join(places),
    }
    notes = getattr(error, "__notes__", None)
    return described | {"notes": notes} if notes else described


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-2:])
