"""Exactly the JSON that all clients can read is accepted; the limit of nesting is the same on every Python."""

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import ErrorCode, NotPortable, Refused
from broker.portable_json import (
    MAX_LEVELS,
    elements,
    encode,
    has_number_out_of_range,
    is_deep,
    members,
    without_surrogates,
)
from broker.protocol.commands import BadCommandError, CommandDecoder, Publish
from broker.protocol.content import custom_content, notifier_content

DECODER = CommandDecoder()


def publish(data: str) -> bytes:
    """Take `data` as a member's over a WebSocket."""
    try:
        command = DECODER.decode(f'{{"type":"publish","event":"e","data":{data},"id":7}}')
    except BadCommandError as bad:
        # Only JSON has an id.
        if bad.request_id != (7 if isinstance(bad.refused, NotPortable) else None):
            raise
        raise bad.refused from None
    assert isinstance(command, Publish)
    return custom_content("ann", command.event, command.data)


def notify(data: str) -> bytes:
    """Take `data` as an application's over HTTP."""
    return notifier_content(f'{{"type":"order","data":{data}}}'.encode())[0]


WAYS: dict[str, Callable[[str], bytes]] = {"publish": publish, "notify": notify}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

GOOD = [
    '"1e400"',
    '"-1E999 \\" 1e400 \\\\"',
    '{"1e400":"99999999999999999999"}',
    "1e308",
    "1.7976931348623157e308",
    "-1.7976931348623158E+308",
    "1e-999999999",
    "0e999999999",
    "0." + "1" * 5000,
    "1" + "0" * 5000 + "e-5000",
    "123456789012345678901234567890.5",
    "1e20",
    "9223372036854775807",
    "-9223372036854775808",
    "1712345678901234567",
    "-0",
    "-0.0",
    '"\\u0000"',
    '"\\ufeff\\uffff"',
    '"\\ud83d\\udca9"',
    '"\\\\ud800"',
    '{"\\u0000":[]}',
    '{"a":1,"a":2}',
    '"' + "[" * 1000 + '"',
    '"\\"' + '[{\\"' * 500 + '"',
    "[" + "[]," * 1000 + "{}]",
    "[" * (MAX_LEVELS - 1) + "]" * (MAX_LEVELS - 1),
    '{"a":' * (MAX_LEVELS - 1) + "[1,2]"[1:2] + "}" * (MAX_LEVELS - 1),
]
OUT_OF_RANGE = [
    "1e400",
    "-1e400",
    "1E999",
    "1e309",
    "1.7976931348623159e308",
    "1e999999999999999999999999",
    "1" + "0" * 400 + ".0",
    "1" + "0" * 400,
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1" * 5000,
    "[1,[2,1e400]]",
    '{"a":"x","b":[{"c":-9223372036854775809}]}',
    '["1e400",9223372036854775808,"9"]',
]
NO_TEXT = [
    '"\\ud800"',
    '"\\udfff x"',
    '"\\ud800\\ud800\\udc00"',
    '"\\ud800\\udc00\\udc00"',
    '"\\\\\\ud800"',
    '"\\uD83D\\n"',
    '{"\\ud800":1}',
    '[[{"a":"\\udc00\\ud800"}]]',
]
TOO_DEEP = [
    "[" * MAX_LEVELS + "]" * MAX_LEVELS,
    '{"a":' * MAX_LEVELS + "1" + "}" * MAX_LEVELS,
    '[{"a":' * 2000 + "1" + "}]" * 2000,
    "[0," * 20_000 + "1" + "]" * 20_000,
    "[" * MAX_LEVELS + "[]," * 15_000 + "0" + "]" * MAX_LEVELS,
]
NO_JSON = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e308*10",
    "01",
    ".5",
    "+1",
    '"\\ud800',
    '"\\ud80x"',
    '"\x00"',
    "\ufeff1",
    "[" * 30_000,
    '{"a":' * 10_000,
]


@every_way
@pytest.mark.parametrize("data", GOOD, ids=lambda data: data[:24])
def test_what_everybody_can_read_is_passed_on(way: Callable[[str], bytes], data: str) -> None:
    content = way(data)
    assert json.loads(content)["data"] == json.loads(data)
    assert msgspec.json.decode(content)["data"] == msgspec.json.decode(data)


@every_way
@pytest.mark.parametrize(
    ("data", "told"),
    [
        *((data, "neither a 64-bit integer nor in the range of a double") for data in OUT_OF_RANGE),
        *((data, "half of a surrogate pair") for data in NO_TEXT),
        *((data, f"nested deeper than {MAX_LEVELS} levels") for data in TOO_DEEP),
    ],
    ids=lambda data: data[:24],
)
def test_what_not_everybody_can_read_is_refused_with_its_field(
    way: Callable[[str], bytes], data: str, told: str
) -> None:
    with pytest.raises(NotPortable) as caught:
        way(data)
    assert caught.value.code is ErrorCode.INVALID_MESSAGE
    assert caught.value.message.startswith("data: ")
    assert told in caught.value.message


@every_way
@pytest.mark.parametrize("data", NO_JSON, ids=lambda data: data[:24])
def test_what_is_no_json_stays_that(way: Callable[[str], bytes], data: str) -> None:
    with pytest.raises(Refused) as caught:
        way(data)
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_JSON, "Invalid JSON")


@given(st.integers(1, 200), st.sampled_from(["[%s]", '{"a":%s}', '{"]":"[","b":%s,"c":[]}']))
@example(MAX_LEVELS - 1, "[%s]")
@example(MAX_LEVELS, "[%s]")
def test_a_message_has_so_many_levels_and_no_more(depth: int, layer: str) -> None:
    data = "1"
    for _ in range(depth):
        data = layer % data
    for way in WAYS.values():
        # The event itself is a level.
        if nesting(json.loads(data)) < MAX_LEVELS:
            assert way(data)
        else:
            with pytest.raises(NotPortable):
                way(data)


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    return 1 + max(map(nesting, value), default=0) if isinstance(value, list) else 0


# Numbers as they may be written, many of them near the ends of what is allowed.
digits = st.text("0123456789", min_size=1, max_size=30)
written_numbers = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from([2**63, -(2**63), 2**64]).flatmap(
        lambda n: st.integers(-2, 2).map(lambda more: str(n + more))
    ),
    st.builds(
        "{}{}.{}e{}{}".format,
        st.sampled_from(["", "-"]),
        st.integers(1, 9),
        digits,
        st.sampled_from("+-"),
        st.integers(290, 330),
    ),
    st.integers(-(10**4), 10**4).map(
        lambda more: str(17976931348623158079 * 10**289 + more * 10**287) + ".0"
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.from_regex(
    r"[0-9.eE\[{\"\\-]{1,30}"
)
escaped = st.text(max_size=3).map(json.dumps) | st.sampled_from(
    ['"\\ud800"', '"\\ud83d\\udca9"', '"\\\\ud800"']
)
written_values = st.recursive(
    written_numbers
    | texts.map(json.dumps)
    | escaped
    | st.sampled_from(["true", "null", "1e400", "NaN", "-0"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(texts.map(json.dumps) | escaped, inner), max_size=4).map(
            lambda pairs: f"{{{','.join(f'{key}: {value}' for key, value in pairs)}}}"
        )
    ),
    max_leaves=10,
)


def accepted(data: str) -> list[bytes]:
    contents = []
    for way in WAYS.values():
        try:
            contents.append(way(data))
        except Refused:
            continue
    return contents


@settings(max_examples=500)
@given(written_values)
@example("17976931348623158079" + "3" * 289 + ".0")
def test_what_is_taken_can_be_read_and_what_can_be_read_is_taken(data: str) -> None:
    contents = accepted(data)
    assert len(contents) in {0, len(WAYS)}, "every way decides alike"
    for content in contents:
        assert is_readable(json.loads(content))
        assert is_readable(msgspec.json.decode(content))
    if not contents:
        assert not is_readable_text(data)


def is_readable(value: Any) -> bool:
    match value:
        case dict():
            return all(is_readable(key) and is_readable(item) for key, item in value.items())
        case list():
            return all(map(is_readable, value))
        case float():
            return math.isfinite(value)
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
    return True


def is_readable_text(data: str) -> bool:
    # Of a key that comes twice, the first value is looked at as well.
    return is_readable(
        json.loads(data, object_pairs_hook=lambda pairs: [item for pair in pairs for item in pair])
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node, whose JSON.parse is that of browsers")
def test_a_browser_reads_what_is_taken() -> None:
    contents: list[bytes] = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(written_values)
    def collect(data: str) -> None:
        contents.extend(accepted(data)[:1])

    collect()
    contents += [way(data) for data in GOOD for way in WAYS.values()]
    script = """
        const finite = (value) => typeof value === "object" && value !== null ? Object.entries(value).flat().every(finite)
          : typeof value === "number" ? Number.isFinite(value)
          : typeof value !== "string" || !/\\p{Surrogate}/u.test(value);
        const lines = require("fs").readFileSync(0, "utf8").split("\\n");
        console.log(lines.filter((line) => finite(JSON.parse(line))).length);
    """
    told = subprocess.run(
        ["node", "-e", script], input=b"\n".join(contents), capture_output=True, check=True, timeout=120
    )
    assert int(told.stdout) == len(contents) > 100


@given(st.dictionaries(texts, st.floats() | st.integers(-(2**70), 2**70) | texts, max_size=4))
def test_an_embedding_programs_message_is_held_to_the_same(fields: dict[str, Any]) -> None:
    message = {"type": "order", "data": fields}
    try:
        content, _ = notifier_content(encode(message))
    except NotPortable:
        assert any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in fields.values())
    else:
        assert is_readable(json.loads(content))


def test_an_embedding_programs_message_that_cannot_be_written_is_refused_with_its_field() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("\ud800", ["x\udfff"], {"\ud800": 1}, deep):
        with pytest.raises(NotPortable, match="data: "):
            encode({"type": "order", "data": value})
    with pytest.raises(NotPortable, match=r"\?: "):
        encode({"type": "order", "\ud800": 1})
    with pytest.raises(TypeError):
        encode({"type": "order", "data": object()})


@given(
    st.dictionaries(
        texts, st.recursive(texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3))
    )
)
def test_members_are_found_as_they_are_written(fields: dict[str, Any]) -> None:
    for indent in (None, 1):
        text = json.dumps(fields, indent=indent)
        found = list(members(text))
        assert [(json.loads(key), json.loads(value)) for key, value, _ in found] == list(fields.items())
        assert [levels for _, _, levels in found] == [nesting(value) for value in fields.values()]
        listed = json.dumps(list(fields.values()), indent=indent)
        assert [json.loads(element) for element in elements(listed)] == list(fields.values())


@settings(max_examples=500)
@given(st.text('{}[]":,\\ud80 e1\n', max_size=60), st.sampled_from([None, 2]))
def test_the_search_for_members_accepts_any_text(text: str, max_runs: int | None) -> None:
    for member in members(text, max_runs=max_runs):
        assert member.value in text
    list(elements(text))
    without_surrogates(text)
    assert is_deep(text) is False


def test_behind_a_value_that_is_too_long_to_follow_members_are_found_too() -> None:
    text = '{"a":1,"b":%s,"id":7,"c":"x"}' % ("[" + "[]," * 1000 + "0]")
    assert [member.key for member in members(text, max_runs=100)] == ['"a"', '"b"', '"id"', '"c"']
    assert [member.key for member in members('{"a":[[[', max_runs=2)] == ['"a"']


@pytest.mark.parametrize(
    "number", ["1e5", "123456789012345678", "1.5e300", "12345678901234567890.5", "1e-400"]
)
def test_a_number_in_range_is_no_wild_one(number: str) -> None:
    assert not has_number_out_of_range(number.encode())
    assert has_number_out_of_range(b"[" + number.encode() + b",1e999]")
