"""JSON that all clients read alike. Pure.

RFC 8259 leaves it to each reader how large a number may be (section 6), how to treat strings that are no Unicode text
(section 8.2) and how deep values may be nested (section 9). A message of one member is read by all others, so it must
stay within the limits that all our clients share, much as in I-JSON (RFC 7493 section 2).

A valid message costs a few searches at the speed of C; the position of a fault is searched for only after one is found.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

import msgspec

from broker.errors import ErrorCode, NotPortable, Refused

T = TypeVar("T")

MAX_BRACKET_RUNS = 4096
"""Runs of brackets that are followed to name a fault to its sender: a millisecond or two."""

MAX_LEVELS = 64
"""Levels of arrays and objects in an event, whose own object is the first."""

_TOO_DEEP = f"nested deeper than {MAX_LEVELS} levels"
NO_TEXT = "a string with half of a surrogate pair, which is no Unicode text"
_OUT_OF_RANGE = "a number that is neither a 64-bit integer nor in the range of a double"

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_strings = re.compile(_STRING + "?", re.DOTALL)
_key = re.compile(rf"[\s,]*+({_STRING})\s*+:\s*+", re.DOTALL)
_scalar = re.compile(rf"{_STRING}|[^\s,\[\]{{}}\"]++", re.DOTALL)
_to_brackets = re.compile(rf'(?:[^"\[\]{{}}]++|{_STRING})*+([\[{{]++|[\]}}]++)', re.DOTALL)
_bracket_runs = re.compile(rb"\[+|\]+")
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_lone_surrogates = re.compile(rf"{_HIGH}(?!{_LOW})|(?<!{_HIGH}){_LOW}")
_whole_numbers = re.compile(r"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")

_raws = msgspec.json.Decoder(msgspec.Raw)

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALL_DIGITS_ZERO = bytes.maketrans(b"123456789E", b"000000000e")
_NINETEEN_DIGITS = b"0" * 19
"""The digits of the largest 64-bit integer."""


def decode(text: str | bytes, parse: Callable[[str], T], levels: int = MAX_LEVELS) -> T:
    """Return the value of a JSON text, as msgspec parses it; the numbers in a `msgspec.Raw` are not checked.

    :raises msgspec.ValidationError: if it does not fit the type of `parse`.
    :raises NotPortable: if it is nested deeper than `levels`, or holds a string that is no Unicode text.
    :raises Refused: `invalid_json`.
    """
    try:
        # UTF-8 is checked here, as msgspec does not check the strings in a Raw (RFC 8259 section 8.1).
        checked = text if isinstance(text, str) else text.decode()
        # Before decoding, as the decoder's own limit of depth depends on the interpreter.
        if len(checked) > 2 * levels and is_deep(checked, levels):
            raise explain(checked, levels)
        return parse(checked)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise explain_undecoded(text, levels) from None


def encode(message: Mapping[str, object]) -> bytes:
    """Return `message` as JSON, with null for NaN and infinities.

    :raises NotPortable: if it is nested too deep, or holds a string that is no Unicode text.
    :raises TypeError: if it holds a value that has no JSON form.
    """
    with suppress(RecursionError, UnicodeError):
        return msgspec.json.encode(message)
    for name, value in message.items():
        what = None
        try:
            msgspec.json.encode({name: value})
        except RecursionError:
            what = _TOO_DEEP
        except UnicodeError:
            what = NO_TEXT
        if what is not None:
            raise NotPortable.of(f"{name.encode(errors='replace').decode()[:100]}: {what}")
    raise AssertionError("one of the fields is at fault")


def explain_undecoded(text: str | bytes, levels: int = MAX_LEVELS) -> Refused:
    """Return the refusal of a text that the decoder rejects: invalid JSON, or valid JSON with a lone surrogate."""
    try:
        written = text if isinstance(text, str) else text.decode()
        if _lone_surrogates.search(written.replace(r"\\", "__")) and _raws.decode(
            without_surrogates(written)
        ):
            return explain(written, levels)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    return Refused(ErrorCode.INVALID_JSON, "Invalid JSON")


def is_deep(text: str, levels: int = MAX_LEVELS) -> bool:
    """Whether the JSON `text` is nested deeper than `levels`; False for unbalanced brackets, which are no JSON."""
    if (text.find("[") < 0 and text.find("{", 1) < 0) or text.count("[") + text.count("{") <= levels:
        return False
    outside_strings = _strings.sub("", text).encode(errors="replace")
    brackets = outside_strings.translate(_TO_SQUARE, _NO_BRACKETS)
    if brackets.count(b"[") != brackets.count(b"]"):
        return False
    # Remove the innermost levels, so that few runs are left to count.
    for _ in range(levels // 8):
        brackets = brackets.replace(b"[]", b"")
    depth = deepest = 0
    for run in _bracket_runs.findall(brackets):
        depth += len(run) if run[0] == ord("[") else -len(run)
        deepest = max(deepest, depth)
    return deepest + levels // 8 > levels


def has_number_out_of_range(json: bytes) -> bool:
    """Whether a JSON value holds a number beyond the range of a double, or an integer beyond 64 bits."""
    digits = json.translate(_ALL_DIGITS_ZERO)
    is_long = _NINETEEN_DIGITS in digits
    if not is_long and b"0e" not in digits:
        return False
    try:
        msgspec.json.decode(json)
    except msgspec.ValidationError:
        return True
    return is_long and any(
        len(number) > 20 or not -(2**63) <= int(number) < 2**63
        for number in _whole_numbers.findall(_strings.sub('""', json.decode()))
    )


def without_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each escape of a lone surrogate, and `__` for each escaped backslash."""
    # Every backslash that is left starts an escape.
    return _lone_surrogates.sub(r"\\ufffd", text.replace(r"\\", "__"))


def explain(text: str, levels: int = MAX_LEVELS) -> NotPortable:
    """Return the refusal of a JSON text that is not portable; it names the first faulty member."""
    for member in members(text, max_runs=MAX_BRACKET_RUNS):
        if member.levels >= levels:
            what = _TOO_DEEP
        elif _lone_surrogates.search((member.key + member.value).replace(r"\\", "__")):
            what = NO_TEXT
        elif has_number_out_of_range(member.value.encode()):
            what = _OUT_OF_RANGE
        else:
            continue
        name = without_surrogates(member.key)[1:-1]
        return NotPortable.of(f"{name[:100]}: {what}")
    return NotPortable.of("message: not every client could read it")


class Member(NamedTuple):
    """A member of a JSON object, as written, and the depth of its value; `value` is empty if it has no end."""

    key: str
    value: str
    levels: int


def members(text: str, *, max_runs: int | None = None) -> Iterator[Member]:
    """Find the members of a JSON object, at any depth and in spite of faults in other members.

    Linear in the length of the text, without recursion. The end of a value with more than `max_runs` runs of brackets
    is not searched for; then the text behind the last bracket is read next, and the members in between are skipped.
    """
    at = len(text) - len(text.lstrip())
    if text[at : at + 1] != "{":
        return
    at += 1
    while (found := _key.match(text, at)) is not None:
        at, levels = _measure(text, found.end(), max_runs)
        yield Member(found[1], text[found.end() : at], levels)
        if at == found.end():
            body = text.rstrip()[:-1]
            tail = body[max(map(body.rfind, "[]{}")) + 1 :]
            if len(tail) < len(body) - 1:
                yield from members("{" + tail)
            return


def elements(text: str) -> Iterator[str]:
    """Find the elements of a JSON array, as `members` does those of an object."""
    at = text.find("[") + 1
    while True:
        rest = len(text) - len(text[at:].lstrip(" \t\r\n,"))
        at, _ = _measure(text, rest, None)
        if at == rest:
            return
        yield text[rest:at]


def _measure(text: str, start: int, max_runs: int | None) -> tuple[int, int]:
    """Return the end of the value that starts at `start` (`start`, if it has none), and its depth."""
    if text[start : start + 1] not in {"[", "{"}:
        scalar = _scalar.match(text, start)
        return (start, 0) if scalar is None else (scalar.end(), 0)
    depth, deepest, at, runs = 0, 0, start, 0
    while (found := _to_brackets.match(text, at)) is not None and runs != max_runs:
        run, at, runs = found[1], found.end(), runs + 1
        if run[0] in "[{":
            depth += len(run)
            deepest = max(deepest, depth)
        elif len(run) < depth:
            depth -= len(run)
        else:
            return found.start(1) + depth, deepest
    return start, deepest
