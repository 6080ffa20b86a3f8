"""The answers of hooks: what is one, and what counts as none."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.errors import ErrorCode
from broker.hooks.answers import Allowed, Denied, WrongAnswerError, parse_answer
from broker.hooks.ask import ChatText, HookKind, Message, OwnEvent

CHAT = ChatText("hello", {"kind": "talk"}, False)
EVENT = OwnEvent("offer", msgspec.Raw(b'{"price":1}'), True, {"kind": "goods"}, False)


def parse(answer: Any, kind: str = "connect", message: Message | None = None) -> Allowed | Denied:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return parse_answer(body, HookKind(kind), message, info_bytes=100)


DEEPEST = b"[" * 63 + b"]" * 63


@pytest.mark.parametrize(
    ("answer", "kind", "message", "expected"),
    [
        ({"allow": True}, "connect", None, Allowed()),
        ({"allow": True, "info": None, "auto_join": None, "expires_at": None}, "join", None, Allowed()),
        ({"allow": True, "message": None, "later": 1}, "publish", CHAT, Allowed()),
        ({"allow": True, "info": {"a": [1, "é"]}}, "connect", None, Allowed(info='{"a":[1,"é"]}'.encode())),
        ({"allow": True, "auto_join": ["a", "b"]}, "connect", None, Allowed(auto_join=("a", "b"))),
        ({"allow": True, "expires_at": 1_700_000_000}, "connect", None, Allowed(expires_at=1.7e9)),
        ({"allow": True, "message": {"text": ""}}, "publish", CHAT, Allowed(message=replace(CHAT, text=""))),
        (
            {"allow": True, "message": {"text": "x", "tags": None, "echo": True}},
            "publish",
            CHAT,
            Allowed(message=replace(CHAT, text="x")),
        ),
        (
            {"allow": True, "message": {"text": None, "tags": {"a": "é" * 64}}},
            "publish",
            CHAT,
            Allowed(message=replace(CHAT, tags={"a": "é" * 64})),
        ),
        ({"allow": True, "message": {"tags": {}}}, "publish", CHAT, Allowed(message=replace(CHAT, tags={}))),
        (
            {"allow": True, "message": {"event": "x"}},
            "publish",
            EVENT,
            Allowed(message=replace(EVENT, event="x")),
        ),
        (
            {"allow": True, "message": {"type": "publish", "data": None, "tags": None}},
            "publish",
            EVENT,
            Allowed(message=replace(EVENT, data=msgspec.Raw(b"null"))),
        ),
        (
            {"allow": True, "message": {"tags": {"a": "b"}}},
            "publish",
            EVENT,
            Allowed(message=replace(EVENT, tags={"a": "b"})),
        ),
        ({"allow": True}, "call", None, Allowed(data=b"null")),
        ({"allow": True, "data": None}, "join", None, Allowed()),
        (
            rb'{"allow":true,"data": {"a": [1, "\u00e9"]} }',
            "call",
            None,
            Allowed(data=rb'{"a": [1, "\u00e9"]}'),
        ),
        (b'{"allow":true,"data":' + DEEPEST + b"}", "call", None, Allowed(data=DEEPEST)),
        (
            {"allow": False, "data": 1},
            "call",
            None,
            Denied(ErrorCode.FORBIDDEN, "refused by the application"),
        ),
        ({"allow": False}, "join", None, Denied(ErrorCode.FORBIDDEN, "refused by the application")),
        (
            {"allow": False, "reason": "x" * 500, "info": 1},
            "join",
            None,
            Denied(ErrorCode.FORBIDDEN, "x" * 200),
        ),
        (
            {"allow": False, "reason": "later", "code": "rate_limited"},
            "publish",
            CHAT,
            Denied(ErrorCode.RATE_LIMITED, "later"),
        ),
    ],
)
def test_an_answer(answer: Any, kind: str, message: Message | None, expected: Allowed | Denied) -> None:
    assert parse(answer, kind, message) == expected


DEEP = b'{"allow":true,"info":' + b"[" * 64 + b"]" * 64 + b"}"
WRONG: list[tuple[Any, str]] = [
    (b"", "connect"),
    (b"{", "connect"),
    (b"null", "connect"),
    (b"[]", "connect"),
    (b"true", "join"),
    (b'{"allow":true} x', "join"),
    (b'\xff{"allow":true}', "join"),
    (b'{"allow":true,"info":"\\ud800"}', "connect"),
    (b'{"allow":true,"info":1e400}', "connect"),
    (b'{"allow":true,"expires_at":1e400}', "connect"),
    (b'{"allow":NaN}', "connect"),
    (b'{"allow":false,"reason":"\\ud800"}', "connect"),
    (DEEP, "connect"),
    (b"[" * 100_000, "connect"),
    ({}, "connect"),
    ({"allow": 1}, "connect"),
    ({"allow": "true"}, "connect"),
    ({"allow": None}, "connect"),
    ({"allow": False, "code": "unauthorized"}, "connect"),
    ({"allow": False, "reason": 5}, "connect"),
    ({"allow": True, "info": "x" * 99}, "connect"),
    ({"allow": True, "auto_join": ["a/b"]}, "connect"),
    ({"allow": True, "auto_join": "a"}, "connect"),
    ({"allow": True, "auto_join": ["a"] * 257}, "connect"),
    ({"allow": True, "expires_at": "soon"}, "connect"),
    ({"allow": True, "expires_at": -1}, "connect"),
    ({"allow": True, "expires_at": 1_700_000_000_000}, "connect"),
    ({"allow": True, "message": {"text": "x"}}, "connect"),
    (b'{"allow":true,"data":[' + DEEPEST + b"]}", "call"),
    (b'{"allow":true,"data":1e400}', "call"),
    (b'{"allow":true,"data":[9223372036854775808]}', "call"),
    (b'{"allow":true,"data":"\\ud800"}', "call"),
    ({"allow": True, "message": {"text": "x"}}, "call"),
    ({"allow": True, "info": {}}, "call"),
    ({"allow": True, "data": 1}, "connect"),
    ({"allow": True, "data": {}}, "join"),
    ({"allow": True, "data": False}, "publish"),
    ({"allow": True, "info": {}}, "join"),
    ({"allow": True, "auto_join": ["a"]}, "join"),
    ({"allow": True, "expires_at": 5}, "publish"),
]


@pytest.mark.parametrize(("answer", "kind"), WRONG)
def test_no_answer(answer: Any, kind: str) -> None:
    with pytest.raises(WrongAnswerError):
        parse(answer, kind, CHAT if kind == "publish" else None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, CHAT),
        ({"text": None, "tags": None}, CHAT),
        ({"text": 5}, CHAT),
        ([], CHAT),
        ("x", EVENT),
        ({"event": ""}, EVENT),
        ({"event": "x" * 129}, EVENT),
        *(
            ({"text": "x", "data": 1, "tags": tags}, message)
            for message in (CHAT, EVENT)
            for tags in (
                [],
                "a",
                {"a": 1},
                {"a": None},
                {"": "a"},
                {"a": ""},
                {"a": "x" * 65},
                {"x" * 65: "a"},
                {f"{number}": "a" for number in range(9)},
            )
        ),
    ],
)
def test_no_change_of_a_message(change: Any, message: Message) -> None:
    with pytest.raises(WrongAnswerError, match="message"):
        parse({"allow": True, "message": change}, "publish", message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
names = st.sampled_from(
    ["allow", "info", "auto_join", "message", "expires_at", "data", "reason", "code", "x"]
)


@settings(max_examples=50)
@given(
    st.binary()
    | json_values.map(json.dumps).map(str.encode)
    | st.dictionaries(names, json_values).map(lambda d: json.dumps({"allow": True} | d).encode()),
    st.sampled_from(HookKind),
    st.sampled_from([CHAT, EVENT]),
)
def test_whatever_comes_is_an_answer_or_none(body: bytes, kind: HookKind, message: Message) -> None:
    try:
        answer = parse_answer(body, kind, message, info_bytes=100)
    except WrongAnswerError:
        return
    assert isinstance(answer, Allowed | Denied)
    if isinstance(answer, Allowed) and answer.message is not None:
        assert type(answer.message) is type(message)
