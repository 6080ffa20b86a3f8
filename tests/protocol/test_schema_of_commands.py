"""The JSON Schema allows the commands that the server takes, and no others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Refused
from broker.model import check_room_name
from broker.protocol.commands import COMMAND_TYPES, BadCommandError, CommandDecoder, Publish
from broker.protocol.content import custom_content
from tests.support.documents import validator

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
VALUES_OF_REFERENCE = {
    "T": '"hi"',
    "R": '"lobby"',
    "B": '"connection"',
    "G": '{"kind":"goal"}',
    "W": '{"kind":["goal","card"]}',
    "E": '"move"',
    "M": '"roll"',
    "D": "[1]",
    "bool": "true",
    "N": "3",
    "S": '"e1"',
    "JWT": '"x.y.z"',
    "since": '{"offset":3,"epoch":"e1"}',
    "limit": "5",
    "reverse": "true",
}
"""Values for what stands for a value in the reference, and for fields that are named there without one."""

VALUES = (
    *(None, True, False, 0, -1, 1, 1.5, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, [], {}, ["a"]),
    *("user", "count", "lobby", "", ".", "..", "...", "a/b", "a\n", "\n", "\x7f", "\x85", "\u2028", "\u00e4"),
    *(
        "x" * 128,
        "x" * 129,
        "user_" + "x" * 128,
        "user_" + "x" * 129,
        "User_" + "x" * 128,
        "\U0001f4a9" * 128,
    ),
    *(
        {"offset": 3, "epoch": "e"},
        {"offset": -1, "epoch": "e"},
        {"offset": 2**63, "epoch": "e"},
        {"epoch": "e"},
    ),
    *(
        {"offset": 0, "epoch": "e" * 64},
        {"offset": 0, "epoch": "e" * 65},
        {"offset": 1},
        {"offset": None, "epoch": ""},
    ),
)
"""Values for any field, on both sides of each limit."""

FIELDS = (
    "by",
    "presence",
    "state",
    "tags",
    "echo",
    "text",
    "room",
    "event",
    "method",
    "data",
    "ephemeral",
    "since",
    "limit",
    "reverse",
    "token",
    "id",
    "other",
)

DECODER, SCHEMA = CommandDecoder(), validator("ClientMessage")


def is_taken(text: str) -> bool:
    """Whether the server executes a message, if its sender is in the room and may do it."""
    try:
        room = getattr(DECODER.decode(text), "room", None)
        return room is None or bool(check_room_name(room))
    except (BadCommandError, Refused):
        return False


def is_stored(text: str) -> bool:
    """Whether a message is taken, and the data of its event as well."""
    if not is_taken(text):
        return False
    command = DECODER.decode(text)
    try:
        return not isinstance(command, Publish) or bool(custom_content("ann", command.event, command.data))
    except Refused:
        return False


def commands_of_reference() -> list[tuple[dict[str, Any], set[str]]]:
    """Return each command in the table of the reference with all of its fields, and the names of the optional ones."""
    table = REFERENCE.read_text().partition("### Client to server")[2].partition("\n### ")[0]
    found = []
    for row in re.findall(r"^\| `(\{.*?\})` \|", table, re.MULTILINE):
        text = re.sub(
            r'"(\w+)"\?(?=[,}])', lambda field: f'"{field[1]}"?:{VALUES_OF_REFERENCE[field[1]]}', row
        )
        text = re.sub(r":([A-Z]+|bool)\b", lambda name: f":{VALUES_OF_REFERENCE[name[1]]}", text)
        found.append((json.loads(text.replace("?", "")), set(re.findall(r'"(\w+)"\?', text))))
    return found


def test_the_commands_of_the_reference_are_those_of_the_schema() -> None:
    described = commands_of_reference()
    assert [command["type"] for command, _ in described] == list(COMMAND_TYPES)
    closed = validator("ClientMessage", is_closed=True)
    for command, optional in described:
        definition = closed.schema["$defs"][command["type"].title().replace("_", "")]
        assert set(definition["properties"]) - {"id"} == set(command)
        assert set(definition["required"]) == set(command) - optional
        for message in (command, {name: value for name, value in command.items() if name not in optional}):
            closed.validate(message)
            assert is_taken(json.dumps(message))


@pytest.mark.parametrize("command", [command for command, _ in commands_of_reference()], ids=COMMAND_TYPES)
def test_a_mutated_command_is_allowed_if_the_server_takes_it(command: dict[str, Any]) -> None:
    # The definition alone, as the whole schema takes much longer.
    schema = validator(command["type"].title().replace("_", ""))
    mutants = [{name: value for name, value in command.items() if name != field} for field in command]
    mutants += [command | {field: value} for field in (*command, "id", "other") for value in VALUES]
    taken = [is_taken(json.dumps(mutant)) for mutant in mutants]
    assert {True, False} == set(taken)
    assert [schema.is_valid(mutant) for mutant in mutants] == taken


@given(
    st.sampled_from(COMMAND_TYPES),
    st.dictionaries(
        st.sampled_from(FIELDS), st.sampled_from(VALUES) | st.text(st.characters(exclude_categories=["Cs"]))
    ),
)
def test_any_command_is_allowed_if_the_server_takes_it(kind: str, fields: dict[str, Any]) -> None:
    message = {"type": kind, **fields}
    assert SCHEMA.is_valid(message) is is_taken(json.dumps(message))


@pytest.mark.parametrize(
    "message", [[], None, 3, "chat", {}, *({"type": kind} for kind in (None, 3, "", "Chat", "joined"))]
)
def test_what_is_no_command_is_not_allowed(message: Any) -> None:
    assert not SCHEMA.is_valid(message)
    assert not is_taken(json.dumps(message))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"chat","text":"\\ud800"}',
        '{"type":"publish","event":"e","data":1e400}',
        '{"type":"publish","event":"e","data":9223372036854775808}',
        '{"type":"ping","other":%s}' % ("[" * 64 + "]" * 64),
        '{"type":"ping","id":1.0}',
        '{"type":"history","limit":5e0}',
        '{"type":"join","room":"a","since":{"offset":3.0,"epoch":"e"}}',
    ],
)
def test_some_values_are_refused_beyond_the_schema_as_its_description_says(text: str) -> None:
    assert SCHEMA.is_valid(json.loads(text))
    assert not is_stored(text)
