"""The documents as files, by name: served, and kept in `docs/`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from broker.protocol.documents.asyncapi import asyncapi
from broker.protocol.documents.schema import json_schema
from broker.protocol.messages import PROTOCOL_NAME

_DOCUMENTS: Mapping[str, Callable[[], dict[str, Any]]] = MappingProxyType(
    {f"{PROTOCOL_NAME}.json": json_schema, "asyncapi.json": asyncapi}
)


def make_files() -> dict[str, bytes]:
    """Return the documents, generated now, by file name. It takes some 10 ms."""
    return {
        name: msgspec.json.format(msgspec.json.encode(make()), indent=2) + b"\n"
        for name, make in _DOCUMENTS.items()
    }


def write_files(directory: Path) -> None:
    """Write the documents to a directory.

    :raises OSError: if that fails.
    """
    for name, content in make_files().items():
        (directory / name).write_bytes(content)
