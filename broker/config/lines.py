"""The line of each key in a TOML text, which tomllib does not give. Only error messages need it.

The text has been accepted by tomllib, so this reads only as much of the grammar (TOML 1.0) as is needed
to tell keys from values. Time and memory are linear in the text.
"""

import re
import tomllib
from typing import TypeAlias

import attrs

KeyPath: TypeAlias = tuple[str | int, ...]
"""Names of tables and keys from the top down, and indices of lists: `("rooms", 0, "access")`."""

# A multi-line string ends at three quotes, of which up to two more just before belong to the text.
_TOKEN = re.compile(
    r"""
    (?P<skip> [ \t\r]+ | \#[^\n]* )
    | \"{3} (?:[^\\]|\\.)*? \"{3,5} | '{3} .*? '{3,5}
    | "(?:[^"\\]|\\.)*" | '[^']*'
    | [\[\]{}=,.\n]
    | [^\s\[\]{}=,.\#"']+
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, on which each table, key and list item of valid TOML first appears."""
    scanner = _Scanner(_tokens(text))
    scanner.scan()
    return scanner.lines


@attrs.frozen
class _Token:
    """A string with its quotes, a bare word, a line end or one mark. The text ends with an empty one."""

    text: str
    line: int


def _tokens(text: str) -> list[_Token]:
    tokens = []
    line = 1
    for match in _TOKEN.finditer(text):
        if match["skip"] is None:
            tokens.append(_Token(match[0], line))
        line += match[0].count("\n")
    tokens.append(_Token("", line))
    return tokens


@attrs.define
class _Scanner:
    """Walks the tokens once. `tables` counts the tables of each `[[list]]` so far."""

    tokens: list[_Token]
    at: int = 0
    lines: dict[KeyPath, int] = attrs.field(factory=dict)
    tables: dict[KeyPath, int] = attrs.field(factory=dict)

    def scan(self) -> None:
        table: KeyPath = ()
        self.skip_line_ends()
        while self.next.text:
            if self.next.text == "[":
                table = self.header()
            else:
                self.statement(table)
            self.skip_line_ends()

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def skip_line_ends(self) -> None:
        while self.next.text == "\n":
            self.at += 1

    def note(self, path: KeyPath, line: int) -> KeyPath:
        self.lines.setdefault(path, line)
        return path

    def header(self) -> KeyPath:
        """`[table]` or `[[list of tables]]`: returns the path of the table that it opens."""
        line = self.next.line
        brackets = 2 if self.tokens[self.at + 1].text == "[" else 1
        self.at += brackets
        *parents, last = self.names()
        self.at += brackets
        path: KeyPath = ()
        for name in parents:
            path = self.latest(self.note((*path, name), line))
        path = self.note((*path, last), line)
        if brackets == 2:
            self.tables[path] = self.tables.get(path, 0) + 1
            self.note(self.latest(path), line)
        return self.latest(path)

    def latest(self, path: KeyPath) -> KeyPath:
        """Return the table that `path` means in a header: of a list of tables, its last."""
        return (*path, self.tables[path] - 1) if path in self.tables else path

    def names(self) -> list[str]:
        names = [self.name()]
        while self.next.text == ".":
            self.at += 1
            names.append(self.name())
        return names

    def name(self) -> str:
        text = self.next.text
        self.at += 1
        return str(tomllib.loads(f"name = {text}")["name"]) if text[0] in "\"'" else text

    def statement(self, table: KeyPath) -> None:
        """`key = value`, or `dotted."key" = value`."""
        path, line = table, self.next.line
        for name in self.names():
            path = self.note((*path, name), line)
        self.at += 1  # the equals sign
        self.value(path)

    def value(self, path: KeyPath) -> None:
        opening = self.next.text
        if opening == "[":
            self.items(path, "]")
        elif opening == "{":
            self.items(path, "}")
        else:
            while self.next.text not in {"", "\n", ",", "]", "}"}:
                self.at += 1

    def items(self, path: KeyPath, closing: str) -> None:
        """Skip the values in brackets, or the statements in braces, with the commas between."""
        index = 0
        self.at += 1
        self.skip_line_ends()
        while self.next.text != closing:
            if closing == "]":
                self.value(self.note((*path, index), self.next.line))
            else:
                self.statement(path)
            index += 1
            while self.next.text in {"\n", ","}:
                self.at += 1
        self.at += 1
