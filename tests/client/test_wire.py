"""Messages as text: what cannot be written is the caller's fault, and what cannot be read is a gap."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.client.errors import NotSentError
from broker.client.wire import read_message, write_message

UNREADABLE = [
    "1e400",
    "NaN",
    '"\\ud800"',
    "1" * 5000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    "x",
    '"\t"',
]
unreadable = pytest.mark.parametrize("data", UNREADABLE, ids=lambda data: data[:8])


def event(offset: int, data: str) -> str:
    return f'{{"type":"event","data":{data},"room":"a","offset":{offset},"epoch":"e","time":1}}'


def gap(offset: int) -> dict[str, Any]:
    return {"type": "gap", "room": "a", "from": offset, "to": offset, "epoch": "e"}


@attrs.frozen
class Note:
    data: object


BYTES = st.sampled_from([b"", b"x", bytearray(b"x"), memoryview(b"x")])
PLACES = [
    lambda value: [value],
    lambda value: (1, value),
    lambda value: {"a": value},
    lambda value: {"a": {"b": [], "c": value}},
    Note,
]


@given(BYTES, st.lists(st.sampled_from(PLACES), max_size=4))
def test_bytes_are_written_nowhere_in_a_message(
    value: object, places: list[Callable[[object], object]]
) -> None:
    for place in places:
        value = place(value)
    with pytest.raises(NotSentError, match="holds bytes"):
        write_message({"type": "x", "data": value})


def test_bytes_as_a_key_are_not_written() -> None:
    with pytest.raises(NotSentError, match="holds bytes"):
        write_message({"type": "x", "data": {b"a": 1}})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(JSON)
def test_what_has_json_is_written_as_it_is(value: object) -> None:
    assert json.loads(write_message({"data": value})) == {"data": value}


@unreadable
def test_an_event_that_cannot_be_read_is_a_gap(data: str) -> None:
    assert read_message(event(7, data)) == gap(7)


@unreadable
def test_one_that_is_not_stored_or_has_no_place_is_passed_over(data: str) -> None:
    for text in (
        f'{{"type":"event","data":{data},"room":"a","time":1}}',
        f'{{"data":{data}}}',
        data,
        f"[{data}]",
    ):
        assert read_message(text) is None


@unreadable
@pytest.mark.parametrize("kind", ["joined", "history"])
def test_of_many_events_the_others_are_read(kind: str, data: str) -> None:
    fields = f'"room":"a","offset":4,"epoch":"e","id":"x","more":{data}'
    good = event(3, '{"messages":["]"]}')
    text = f'{{"type":"{kind}","messages":[{event(2, data)}, {good},{event(4, data)},{data}],{fields}}}'
    assert read_message(text) == {
        "type": kind,
        "messages": [gap(2), json.loads(good), gap(4)],
        "room": "a",
        "offset": 4,
        "epoch": "e",
        "id": "x",
        "more": None,
    }


@given(st.text('{}[]":,\\\\ud80 e1typeromfs0', max_size=80))
def test_whatever_text_comes_harms_nobody(text: str) -> None:
    message = read_message(text)
    assert message is None or isinstance(message, dict)


def test_what_cannot_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("caf\udce9", {"\ud800": 1}, deep, object()):
        with pytest.raises(NotSentError, match="message: "):
            write_message({"text": value})
    assert write_message({"a": float("nan"), "b": float("inf")}) == '{"a":null,"b":null}'
