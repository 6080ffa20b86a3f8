"""The limits of JSON that all clients read: Python's own parser agrees about what is JSON, and about each limit."""

import json
import math
from collections.abc import Iterator

import msgspec

from broker.errors import NotPortable, Refused
from broker.portable_json import MAX_LEVELS, decode, has_number_out_of_range, members

SEEDS = (
    b'{"a":[1,-2.5e3,null,true,false,"x\\u00e9\\n\\ud83d\\ude00"],"b":{"c":{}},"a":"again"} ',
    b'{"n":9223372036854775807,"m":-9223372036854775808,"f":1.7976931348623157e308}',
    b'{"n":9223372036854775808,"m":[-9223372036854775809,18446744073709551615]}',
    b'{"n":1e309,"m":0.00000000000000000001e-400,"z":0000}',
    b'{"s":"\\ud800","\\udc00":1}',
    b'{"s":"\\\\ud800 [[[ 99999999999999999999 \\" 1e999","t":"\x7f"}',
    b'{"d":' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"d":' + b'[{"e":' * 31 + b"0" + b"}]" * 31 + b"}",
    b'{"d":' + b"[" * 63 + b"]" * 63 + b"}",
    b"[NaN,Infinity,-Infinity,-,+1,01,.5,1.]",
    b'"\xed\xa0\x80"\xef\xbb\xbf',
    b'{"a":["\\ud83d\\ud00e"],"a":"again"}',
)


class _NoNumberError(ValueError):
    """NaN or an infinity, which Python reads and JSON has not."""


def check(data: bytes) -> None:
    """Decode a text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    read = None if text is None else _read(text)
    try:
        decode(data, msgspec.json.decode)
    except msgspec.ValidationError:
        # Only a number that is too large has no Python value.
        assert has_number_out_of_range(data)
        return
    except NotPortable:
        # Depth is checked first, also of what turns out to be no JSON.
        assert read is None or _depth(_all_of(text)) > MAX_LEVELS or _is_no_text(_all_of(text))
        return
    except Refused:
        assert read is None, "JSON is called none"
        return
    assert text is not None
    assert read is not None, "no JSON is accepted"
    value, is_out_of_range = read
    assert _depth(_all_of(text)) <= MAX_LEVELS
    assert not _is_no_text(_all_of(text))
    assert has_number_out_of_range(data) is is_out_of_range
    if isinstance(value, dict):
        found = {json.loads(member.key): _read(member.value) for member in members(text)}
        assert {name: one[0] for name, one in found.items() if one is not None} == value


def _read(text: str) -> tuple[object, bool] | None:
    """Return the value as Python reads it, and whether a number is out of range; None if it is no JSON."""
    out_of_range = []

    def parse_int(digits: str) -> int:
        out_of_range.append(not -(2**63) <= int(digits) < 2**63)
        return int(digits)

    def parse_float(digits: str) -> float:
        out_of_range.append(math.isinf(float(digits)))
        return float(digits)

    try:
        value = json.loads(text, parse_int=parse_int, parse_float=parse_float, parse_constant=_refuse)
    except ValueError:
        return None
    return value, any(out_of_range)


def _all_of(text: str | None) -> object:
    """Return a value with each object as a list of its names and values, also of names that come again."""
    return json.loads(text or "", object_pairs_hook=lambda pairs: [part for pair in pairs for part in pair])


def _refuse(name: str) -> None:
    raise _NoNumberError(name)


def _inner(value: object) -> Iterator[object]:
    if isinstance(value, list):
        yield from value


def _depth(value: object) -> int:
    return 1 + max(map(_depth, _inner(value)), default=0) if isinstance(value, list) else 0


def _is_no_text(value: object) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return any(map(_is_no_text, _inner(value)))
