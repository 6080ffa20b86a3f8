"""Settings from the text of a TOML file, each with its line."""

import re
import tomllib
from collections.abc import Mapping
from typing import TypeGuard

import attrs

from broker.config.findings import Findings, suggest
from broker.config.keys import Schema, nearest, nearest_key
from broker.config.lines import KeyPath, key_lines


def from_toml(text: str, schema: Schema, *, file: str) -> Findings:
    """Read every key of `text`; `file` is the name that origins and problems give it."""
    findings = Findings()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        findings.note(_place_of_syntax_error(text, str(error), file), f"not valid TOML: {error}")
        return findings
    reader = _Reader(schema, file, key_lines(text), findings)
    for name, value in document.items():
        reader.top_level(name, value)
    return findings


@attrs.frozen
class _Reader:
    """Walks a document; `lines` tells where each of its keys stands."""

    schema: Schema
    file: str
    lines: Mapping[KeyPath, int]
    findings: Findings

    def origin(self, *path: str | int) -> str:
        return f"{self.file}:{self.lines[path]}"

    def top_level(self, name: str, value: object) -> None:
        if name in self.schema.sections:
            self.section(name, value)
        elif name in self.schema.lists:
            self.tables(name, value)
        elif isinstance(value, dict) or _is_list_of_tables(value):
            known = nearest(name, (*self.schema.sections, *self.schema.lists))
            self.findings.note(
                f"{self.origin(name)}: [{name}]", f"no such table; the nearest known is [{known}]"
            )
        else:
            self.unknown(name, self.origin(name))

    def section(self, name: str, value: object) -> None:
        if not isinstance(value, dict):
            self.findings.note(f"{self.origin(name)}: {name}", f"must be a table: [{name}]")
            return
        keys = {**self.schema.sections[name], **self.schema.files[name]}
        for key_name, item in value.items():
            origin = self.origin(name, key_name)
            if f"{name}.{key_name}" in self.schema.lists:
                self.tables(f"{name}.{key_name}", item)
            elif key_name in keys:
                self.findings.add(keys[key_name], item, origin)
            else:
                self.unknown(f"{name}.{key_name}", origin)

    def tables(self, name: str, value: object) -> None:
        if not _is_list_of_tables(value):
            place = f"{self.origin(*name.split('.'))}: {name}"
            self.findings.note(place, f"must be a list of tables: [[{name}]]")
            return
        for index, table in enumerate(value):
            self.table(name, index, table)

    def table(self, name: str, index: int, table: Mapping[str, object]) -> None:
        keys = self.schema.lists[name] | self.schema.files[name]
        path: tuple[str | int, ...] = (*name.split("."), index)
        for key_name, item in table.items():
            origin = self.origin(*path, key_name)
            if key_name in keys:
                self.findings.add(keys[key_name], item, origin, index=index)
            else:
                place = f"{origin}: {name}[{index}].{key_name}"
                self.findings.note(place, suggest(nearest_key(key_name, keys.values()), index))
        for key in keys.values():
            if key.is_required and key.name not in table:
                place = f"{self.origin(*path)}: {name}[{index}].{key.name}"
                self.findings.note(place, f"missing; must be {key.allowed}")

    def unknown(self, path: str, origin: str) -> None:
        self.findings.note(f"{origin}: {path}", suggest(nearest_key(path, self.schema.known_keys())))


def _is_list_of_tables(value: object) -> TypeGuard[list[dict[str, object]]]:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _place_of_syntax_error(text: str, message: str, file: str) -> str:
    """Find the line: tomllib tells it in its message only, or that the text ended too early."""
    match = re.search(r"at line (\d+)", message)
    return f"{file}:{match[1] if match else text.rstrip().count(chr(10)) + 1}"
