"""Validators of messages against the JSON Schema of the protocol."""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from broker.protocol.documents.schema import json_schema


def objects_in(document: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a document, the document included."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for value in document:
            yield from objects_in(value)


@cache
def validator(name: str, *, is_closed: bool = False) -> Draft202012Validator:
    """Return the validator of a definition; a closed one also refuses fields that are not described.

    Of a service's event fields are its own.
    """
    schema = json_schema()
    del schema["anyOf"]
    if is_closed:
        schema = copy.deepcopy(schema)
        for title, definition in schema["$defs"].items():
            if "properties" in definition and title != "ServiceEvent":
                definition["additionalProperties"] = False
    return Draft202012Validator(schema | {"$ref": f"#/$defs/{name}"})
