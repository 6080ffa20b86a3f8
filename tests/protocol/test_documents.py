"""The documents of the protocol: as in docs/, valid, complete, with examples that hold."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from broker.config.settings import HistorySettings, LimitSettings
from broker.errors import CloseCode, ErrorCode
from broker.protocol.commands import COMMAND_TYPES, CommandDecoder
from broker.protocol.documents.asyncapi import REPLIES, asyncapi
from broker.protocol.documents.examples import COMMANDS
from broker.protocol.documents.files import make_files, write_files
from broker.protocol.documents.schema import COMMAND_NAMES, EVENT_NAMES, MESSAGE_NAMES, json_schema
from broker.protocol.messages import MESSAGE_TYPES
from tests.support.documents import objects_in, validator

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference.md"
SCHEMA, ASYNCAPI = json_schema(), asyncapi()
ALL_NAMES = {*COMMAND_NAMES, *MESSAGE_NAMES, *EVENT_NAMES, "Closing"}


@pytest.mark.parametrize("name", sorted(make_files()))
def test_docs_has_what_the_code_generates(name: str) -> None:
    assert json.loads((DOCS / name).read_bytes()) == json.loads(make_files()[name]), "run `make documents`"


def test_the_files_are_written(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == make_files()


def test_the_schemas_are_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for schema in ASYNCAPI["components"]["schemas"].values():
        # The dialect of AsyncAPI's own schemas.
        Draft7Validator.check_schema(schema)
        assert all(set(part) == {"$ref"} for part in objects_in(schema) if "$ref" in part)


@pytest.mark.parametrize("document", [SCHEMA, ASYNCAPI], ids=["schema", "asyncapi"])
def test_each_reference_leads_to_a_part_of_the_document(document: dict[str, Any]) -> None:
    for part in objects_in(document):
        if isinstance(reference := part.get("$ref"), str):
            found: Any = document
            for key in reference.removeprefix("#/").split("/"):
                found = found[key]


def test_every_type_of_message_is_described() -> None:
    described = {
        kind
        for name in ALL_NAMES
        for kind in SCHEMA["$defs"][name]["properties"].get("type", {}).get("enum", ())
    }
    assert described == {*COMMAND_TYPES, *MESSAGE_TYPES, "chat", "event"}
    assert set(ASYNCAPI["components"]["messages"]) == ALL_NAMES
    assert {REPLIES[name] for name in COMMAND_NAMES} <= set(MESSAGE_NAMES)


def test_every_message_and_field_is_explained() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition.get("description") or name.endswith("Code"), name
        for field, schema in definition.get("properties", {}).items():
            is_explained = field == "type" or "description" in schema or "$ref" in json.dumps(schema)
            assert is_explained, f"{name}.{field}"


def test_readers_may_meet_more_than_is_described() -> None:
    for part in [*objects_in(SCHEMA), *objects_in(ASYNCAPI)]:
        # An object without properties of its own maps names to values.
        assert part.get("additionalProperties", True) is True or "properties" not in part
        assert "unevaluatedProperties" not in part
    for document in (SCHEMA, ASYNCAPI["info"]):
        assert "ignores fields, types of messages and codes that it does not know" in document["description"]
    later = {"type": "error", "code": "a_later_code", "message": "why", "since_v1_9": {}}
    assert validator("ServerMessage").is_valid(later)
    assert validator("Closing").is_valid({"code": 4199, "reason": ""})


def test_every_message_has_an_example_that_holds() -> None:
    for name in ALL_NAMES:
        of_schema = SCHEMA["$defs"][name]["examples"]
        assert [
            example["payload"] for example in ASYNCAPI["components"]["messages"][name]["examples"]
        ] == of_schema
        assert of_schema, name
        for example in of_schema:
            validator(name, is_closed=True).validate(example)
            if name != "Closing":
                whole = "ClientMessage" if name in COMMAND_NAMES else "ServerMessage"
                validator(whole, is_closed=True).validate(example)


def test_the_server_takes_the_examples_of_commands() -> None:
    for example in COMMANDS:
        CommandDecoder().decode(msgspec.json.encode(example))


def test_the_codes_are_those_of_the_server() -> None:
    known = {
        name: [option["const"] for option in SCHEMA["$defs"][name]["anyOf"] if "const" in option]
        for name in ("ErrorCode", "CloseCode")
    }
    assert known == {"ErrorCode": list(ErrorCode), "CloseCode": list(CloseCode)}
    for channel in ("ws", "wsRoom"):
        codes = ASYNCAPI["channels"][channel]["x-close-codes"]
        assert [entry["code"] for entry in codes] == list(CloseCode)
        final = {entry["code"] for entry in codes if not entry["reconnect"]}
        assert final == {code for code in CloseCode if code == 1000 or 4000 <= code < 4100}


def test_the_codes_are_those_of_the_reference() -> None:
    text = REFERENCE.read_text()
    table = text.partition("### Close codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d /,]+) \|", table, re.MULTILINE)
    assert {int(code) for row in rows for code in re.findall(r"\d+", row)} == set(CloseCode) - {1000}
    codes = text.partition("stays open. Codes: ")[2].partition("The error text")[0]
    assert set(re.findall(r"`(\w+)`", codes)) - {"retry_after_ms"} == set(ErrorCode)


def test_the_defaults_that_descriptions_name_are_those_of_the_settings() -> None:
    named = dict(re.findall(r"`(\w+\.\w+)` \((\d+)\)", json.dumps([SCHEMA, ASYNCAPI])))
    assert named == {
        "limits.text_characters": str(LimitSettings().text_characters),
        "limits.state_bytes": str(LimitSettings().state_bytes),
        "history.page_messages": str(HistorySettings().page_messages),
    }


def test_operations_use_the_messages_of_their_channels() -> None:
    received = set()
    for name, operation in ASYNCAPI["operations"].items():
        channel = operation["channel"]["$ref"]
        replies = operation.get("reply", {}).get("messages", [])
        assert all(
            message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"] + replies
        )
        if operation["action"] == "receive":
            received.add(
                (channel.rpartition("/")[2], *(m["$ref"].rpartition("/")[2] for m in operation["messages"]))
            )
            assert len(replies) == 2, name
    assert received == {(channel, name) for channel in ("ws", "wsRoom") for name in COMMAND_NAMES}
