"""The messages as JSON Schema (2020-12), generated from the structs that encode and decode them.

The definitions use only what draft 7 has as well, so that AsyncAPI documents can hold them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args

import msgspec

from broker.protocol.commands import AnyCommand
from broker.protocol.content import NATIVE_TYPES, ChatEvent, ClientEvent, Placement
from broker.protocol.documents.codes import CLOSE_MEANINGS, ERROR_MEANINGS
from broker.protocol.documents.examples import COMMANDS, Example, closing_examples, server_examples
from broker.protocol.messages import PROTOCOL_NAME, AnyMessage, Closing

Schema: TypeAlias = dict[str, Any]

COMMAND_NAMES: tuple[str, ...] = tuple(struct.__name__ for struct in get_args(AnyCommand))
MESSAGE_NAMES: tuple[str, ...] = tuple(struct.__name__ for struct in get_args(AnyMessage))
EVENT_NAMES = ("ChatEvent", "ClientEvent", "ServiceEvent")

RULES = (
    "A message is one JSON object in one text frame. A client ignores fields, types of messages and codes that it does not "
    "know: greenroom.v1 only grows, so that a later server may add some, and none changes its meaning or goes. The server "
    "ignores unknown fields of a request, and answers an unknown type with `unknown_type`. Beyond what a schema says, a "
    "request is refused (`invalid_message`) if it has strings that are no Unicode text (half of a surrogate pair), data with "
    "numbers that are neither 64-bit integers nor within the range of a double, arrays and objects nested more than 64 levels "
    "deep, or an integer field written with a fraction or an exponent (1.0). "
    "The reference of Greenroom has the order and delivery of messages."
)
"""What no schema says."""


def json_schema() -> Schema:
    """Return the schema of all messages, with a definition for each message and each type of field."""
    reference = "#/$defs/{name}"
    definitions = make_definitions(reference)
    for name, examples in examples_by_name().items():
        definitions[name]["examples"] = examples
    definitions |= {
        "ClientMessage": _one_of("A message of a client: a request.", COMMAND_NAMES, reference),
        "ServerMessage": _one_of(
            "A message of the server. One that matches none of these is of a later server: ignore it.",
            (*EVENT_NAMES, *MESSAGE_NAMES),
            reference,
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": PROTOCOL_NAME,
        "description": RULES,
        "anyOf": [_ref("ClientMessage", reference), _ref("ServerMessage", reference)],
        "$defs": dict(sorted(definitions.items())),
    }


def examples_by_name() -> dict[str, list[Example]]:
    """Return the examples of each message by the name of its definition."""
    found: dict[str, list[Example]] = {"Closing": closing_examples()}
    for names, examples in (
        (_names_by_type(AnyCommand), COMMANDS),
        (_names_by_type(AnyMessage | ChatEvent | ClientEvent), server_examples()),
    ):
        for example in examples:
            found.setdefault(names.get(example["type"], "ServiceEvent"), []).append(example)
    return found


def types_by_name() -> dict[str, str]:
    """Return the `type` of each message by the name of its definition; a service's events have types of their own."""
    names = [_names_by_type(AnyCommand), _names_by_type(AnyMessage | ChatEvent | ClientEvent)]
    return {name: kind for by_type in names for kind, name in by_type.items()}


def make_definitions(reference: str) -> dict[str, Schema]:
    """Return the definitions of all messages and types of fields by name; `reference` is the `$ref` to a `{name}`."""
    sent = (*get_args(AnyMessage), ChatEvent, ClientEvent, Placement, Closing)
    _, built = msgspec.json.schema_components((*get_args(AnyCommand), *sent), ref_template=reference)
    for struct in sent:
        _drop_nulls(built[struct.__name__])
    placement = built.pop("Placement")
    # A chat is always stored.
    built["ChatEvent"] = _merge(built["ChatEvent"], placement, required=("offset", "epoch"))
    built["ClientEvent"] = _merge(built["ClientEvent"], placement)
    built["ServiceEvent"] = _merge(_service_event(), placement)
    # A service's event may have the same type.
    built["Result"]["not"] = {"required": ["room"]}
    definitions: dict[str, Schema] = {
        "Event": _one_of(
            "An event of a room, or `withheld` in the place of some.", (*EVENT_NAMES, "Withheld"), reference
        ),
        "ErrorCode": _codes("string", {code.value: text for code, text in ERROR_MEANINGS.items()}),
        "CloseCode": _codes("integer", {int(code): text for code, text in CLOSE_MEANINGS.items()}),
    }
    for name, schema in built.items():
        properties = {
            key: _lift(field, definitions, reference) for key, field in schema["properties"].items()
        }
        definitions[name] = schema | {"properties": properties}
    return dict(sorted(definitions.items()))


def _names_by_type(union: object) -> Mapping[str, str]:
    return {str(struct.__struct_config__.tag): struct.__name__ for struct in get_args(union)}


def _ref(name: str, reference: str) -> Schema:
    return {"$ref": reference.format(name=name)}


def _one_of(description: str, names: tuple[str, ...], reference: str) -> Schema:
    return {"description": description, "oneOf": [_ref(name, reference) for name in names]}


def _codes(kind: str, meanings: Mapping[Any, str]) -> Schema:
    """Return the schema of a set of codes that may grow."""
    known = [{"const": code, "description": meaning} for code, meaning in meanings.items()]
    return {"type": kind, "anyOf": [*known, {"type": kind, "description": "a code of a later server"}]}


def _service_event() -> Schema:
    return {
        "title": "ServiceEvent",
        "description": "A message of a service, or of the program with the rooms inside, with fields of its own.",
        "type": "object",
        "properties": {
            "type": {
                "type": "string",
                "minLength": 1,
                "not": {"enum": sorted(NATIVE_TYPES)},
                "description": "Of the application's own choice, but none of the protocol.",
            }
        },
        "required": ["type"],
    }


def _merge(content: Schema, placement: Schema, required: Sequence[str] = ()) -> Schema:
    return content | {
        "properties": content["properties"] | placement["properties"],
        "required": [*content["required"], *placement["required"], *required],
    }


def _drop_nulls(schema: Schema) -> None:
    """Describe an optional field as it is written: it is omitted rather than null."""
    for name, field in schema["properties"].items():
        if name not in schema["required"] and field.get("default", ...) is None:
            rest = [option for option in field.pop("anyOf") if option != {"type": "null"}]
            del field["default"]
            field.update(rest[0] if len(rest) == 1 else {"anyOf": rest})


def _lift(schema: Any, definitions: dict[str, Schema], reference: str) -> Any:
    """Return `schema` with each type that has a title moved to `definitions`."""
    if isinstance(schema, list):
        # null is the last option of `anyOf`, as not all versions of msgspec write it there.
        return sorted(
            (_lift(item, definitions, reference) for item in schema), key=lambda it: it == {"type": "null"}
        )
    if not isinstance(schema, dict):
        return schema
    name = schema.get("title")
    if name is None:
        return {key: _lift(value, definitions, reference) for key, value in schema.items()}
    if schema.keys() - {"title", "type"}:
        assert definitions.setdefault(name, schema) == schema, f"two types have the title {name}"
    return _ref(name, reference)
