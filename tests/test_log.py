"""The content of the log, and the data that never appears in it."""

import io
import json
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.settings import AuthSettings, LogSettings
from broker.log import Log, open_log, stdlib_log
from broker.log.fields import describe_error, format_fields, redact

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


@attrs.define
class Written:
    """A log, and what it has written so far."""

    log: Log
    stream: io.StringIO

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def only(self) -> dict[str, Any]:
        [line] = self.lines
        fields: dict[str, Any] = json.loads(line)
        return fields


def written(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "human", "json"] = "auto",
    stream: io.StringIO | None = None,
) -> Written:
    stream = stream or io.StringIO()
    return Written(open_log(LogSettings(level=level, format=form), stream), stream)


def test_a_stream_that_is_no_terminal_gets_json_lines() -> None:
    out = written()
    before = datetime.now(UTC)
    out.log.info("room.started", room="lobby", members=3, idle_seconds=0.5, durable=None)
    fields = out.only
    assert list(fields)[:3] == ["time", "level", "event"]
    assert fields["time"].endswith("Z")
    assert before <= datetime.fromisoformat(fields.pop("time")) <= datetime.now(UTC)
    assert fields == {
        "level": "info",
        "event": "room.started",
        "room": "lobby",
        "members": 3,
        "idle_seconds": 0.5,
        "durable": None,
    }


def test_a_terminal_gets_lines_for_people() -> None:
    out = written(stream=Terminal())
    out.log.warning("room.slow", room="a b", members=3, path=Path("/x"), inner={"k": ""})
    [line] = out.lines
    time, rest = line.split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo == UTC
    assert rest == "warning room.slow  room='a b' members=3 path=/x inner.k=''"


def test_the_format_may_be_chosen() -> None:
    json_out, human_out = written(form="json", stream=Terminal()), written(form="human")
    json_out.log.info("e")
    human_out.log.info("e")
    assert json_out.only["event"] == "e"
    assert human_out.lines[0].endswith(" info    e")


def test_events_below_the_level_are_not_written() -> None:
    out = written("warning")
    out.log.debug("a")
    out.log.info("b")
    out.log.warning("c")
    out.log.error("d")
    assert [json.loads(line)["event"] for line in out.lines] == ["c", "d"]


def test_bound_fields_are_in_each_line_of_that_log_only() -> None:
    out = written("debug")
    bound = out.log.bind(connection=7).bind(user_id="ann")
    bound.debug("a", connection=8)
    out.log.debug("b")
    first, second = map(json.loads, out.lines)
    assert (first["connection"], first["user_id"]) == (8, "ann")
    assert "connection" not in second


def test_an_exception_is_told_in_the_same_line() -> None:
    out = written()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        out.log.exception("room.failed", room="lobby")
    fields = out.only
    assert (fields["level"], fields["room"]) == ("error", "lobby")
    assert fields["error"]["type"] == "ValueError"
    assert fields["error"]["message"] == "first\nsecond"
    assert "test_log.py:" in fields["error"]["at"]
    assert "test_an_exception_is_told_in_the_same_line" in fields["error"]["at"]
    assert "traceback" not in fields


def test_an_exception_may_be_given() -> None:
    out = written()
    out.log.exception("a", exc_info=KeyError("k"))
    out.log.exception("b")
    first, second = map(json.loads, out.lines)
    assert first["error"] == {"type": "KeyError", "message": "'k'", "at": ""}
    assert "error" not in second


@pytest.mark.parametrize("form", ["json", "human"])
def test_a_traceback_is_written_at_level_debug_only(form: Literal["json", "human"]) -> None:
    for level, expected in (("info", False), ("debug", True)):
        out = written("debug" if level == "debug" else "info", form)
        out.log.info("no error")
        try:
            raise ValueError(f"bad \x1b[31m {TOKEN}")
        except ValueError:
            out.log.exception("failed")
        text = out.stream.getvalue()
        assert ("Traceback (most recent call last)" in text) is expected
        assert "\x1b" not in text
        assert TOKEN not in text
        if form == "json" or not expected:
            assert len(out.lines) == 2


def test_an_exception_group_is_logged_with_its_exceptions() -> None:
    group = ExceptionGroup("some", [ExceptionGroup("in", [KeyError("a")]), *[OSError(n) for n in range(9)]])
    described = describe_error(group)
    assert described["type"] == "ExceptionGroup"
    errors = described["errors"]
    assert isinstance(errors, list)
    assert [error["type"] for error in errors] == ["KeyError", *["OSError"] * 4]


@pytest.mark.parametrize("form", ["json", "human"])
@pytest.mark.parametrize(
    "name", ["token", "secret", "api_key", "authorization", "text", "data", "body", "Token"]
)
def test_fields_that_hold_secrets_or_messages_are_hidden(form: Literal["json", "human"], name: str) -> None:
    out = written("debug", form)
    out.log.bind(**{name: "hunter2"}).info("a", inner={name: ["hunter2"]})
    out.log.info("b", **{name: b"hunter2"})
    assert "hunter2" not in out.stream.getvalue()
    assert out.stream.getvalue().count("***") == 3


def test_a_token_is_hidden_wherever_it_stands() -> None:
    out = written()
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError as error:
        out.log.exception("a", path=f"/ws?token={TOKEN}", list=[TOKEN], cause=error, deep={"x": (TOKEN,)})
    assert TOKEN not in out.stream.getvalue()
    assert out.only["path"] == "/ws?token=***"
    assert out.only["cause"] == "ValueError: bad ***"


def test_of_bytes_and_objects_no_content_is_told() -> None:
    out = written()
    out.log.info("a", frame=b"hunter2", auth=AuthSettings(secret="hunter2"), big=1 << 80, some={1: {"x"}})
    fields = out.only
    assert (fields["frame"], fields["auth"]) == ("<7 bytes>", "<AuthSettings>")
    assert (fields["big"], fields["some"]) == (str(1 << 80), {"1": ["x"]})


def test_a_line_for_people_stays_one_line_and_obeys_no_escape() -> None:
    out = written(form="human")
    out.log.info("a", room="x\nfake line\x1b[2J\x9b", **{"ro om": "="})
    [line] = out.lines
    assert "'x\\nfake line\\x1b[2J\\x9b'" in line
    assert "'ro om'='='" in line


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["room", "user_id", "x"]), VALUES))
def test_every_event_is_one_line_whatever_its_fields(fields: dict[str, Any]) -> None:
    for form in ("json", "human"):
        out = written(form="json" if form == "json" else "human")
        out.log.info("a", **fields)
        assert out.stream.getvalue().count("\n") == 1
        assert len(out.lines) == 1 or form == "json"


@given(st.dictionaries(st.text(), VALUES))
def test_redaction_is_idempotent_and_printable(fields: dict[str, Any]) -> None:
    assert repr(redact(redact(fields))) == repr(redact(fields))
    assert format_fields(redact(fields)).isprintable()


def test_text_that_is_no_utf8_is_escaped() -> None:
    out = written()
    out.log.info("a", room="é\ud800")
    assert out.only["room"] == "é\\ud800"


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    open_log(LogSettings(), pipe).info("a")
    # What could not be written is still in the pipe's buffer.
    with pytest.raises(BrokenPipeError):
        pipe.close()


def test_a_log_on_a_closed_stream_ends_nothing() -> None:
    out = written()
    out.stream.close()
    out.log.info("a")


def test_the_fields_of_the_log_itself_cannot_be_replaced() -> None:
    out = written()
    out.log.bind(level="fatal").info("a", time="never", room="lobby")
    fields = out.only
    assert list(fields) == ["time", "level", "event", "room"]
    assert (fields["level"], fields["time"]) != ("fatal", "never")
    assert fields["level"] == "info"
    assert fields["time"].endswith("Z")


def test_an_embedding_program_gets_events_in_its_own_logging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "greenroom")
    log = stdlib_log().bind(node="a")
    log.debug("not seen")
    log.info("100% started", room="lobby", token="hunter2")
    log.warning("b")
    log.error("c")
    try:
        raise ValueError("bad")
    except ValueError as error:
        log.exception("d")
        log.exception("e", exc_info=error)
    log.exception("f")
    first, *_, caught, given, none = caplog.records
    assert [record.levelname for record in caplog.records] == [
        "INFO",
        "WARNING",
        "ERROR",
        "ERROR",
        "ERROR",
        "ERROR",
    ]
    assert first.getMessage() == "100% started  node=a room=lobby token=***"
    assert vars(first)["greenroom"] == {"node": "a", "room": "lobby", "token": "***"}
    assert (first.name, first.filename) == ("greenroom", "test_log.py")
    assert caught.exc_info is not None
    assert given.exc_info is not None
    assert isinstance(caught.exc_info[1], ValueError)
    assert caught.exc_info[1] is given.exc_info[1]
    assert none.exc_info is None


def test_an_embedding_program_may_see_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "greenroom")
    stdlib_log().debug("seen")
    assert caplog.records[0].levelno == logging.DEBUG


@given(
    st.lists(st.sampled_from(["eyJ", "eyJa", ".", "a", "-", "_", "é", " ", "=", "\ud800", "..", ".a.b"])).map(
        "".join
    )
)
def test_the_same_tokens_are_hidden_as_by_one_expression(text: str) -> None:
    """The expression says what a token is; it takes quadratic time."""
    expected = re.sub(r"eyJ[\w-]*\.[\w-]+\.[\w-]*", "***", text).encode(errors="backslashreplace").decode()
    assert redact({"reason": text}) == {"reason": expected}
