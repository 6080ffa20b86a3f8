"""The line of each key: told for every way TOML lets people write it, and checked against tomllib."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from broker.config.lines import KeyPath, key_lines


def test_each_key_is_found_on_its_line() -> None:
    text = """\
# [server] in a comment
top = 1

[server]
host = "x" #port = 1
'quoted key' = \"\"\"
[limits]
port = 2 \\\"\"\" still inside
\"\"\"\"
port = 3
limits.deep."a.b" = { x = 1, y = [ { z = 2 } ] }

[[rooms]]
pattern = '''
[[rooms]]'''
[[rooms]]
[rooms.inner]
list = [
  1, # ] not the end
  "]",

  { k = 3 },
]
"""
    assert key_lines(text) == {
        ("top",): 2,
        ("server",): 4,
        ("server", "host"): 5,
        ("server", "quoted key"): 6,
        ("server", "port"): 10,
        ("server", "limits"): 11,
        ("server", "limits", "deep"): 11,
        ("server", "limits", "deep", "a.b"): 11,
        ("server", "limits", "deep", "a.b", "x"): 11,
        ("server", "limits", "deep", "a.b", "y"): 11,
        ("server", "limits", "deep", "a.b", "y", 0): 11,
        ("server", "limits", "deep", "a.b", "y", 0, "z"): 11,
        ("rooms",): 13,
        ("rooms", 0): 13,
        ("rooms", 0, "pattern"): 14,
        ("rooms", 1): 16,
        ("rooms", 1, "inner"): 17,
        ("rooms", 1, "inner", "list"): 18,
        ("rooms", 1, "inner", "list", 0): 19,
        ("rooms", 1, "inner", "list", 1): 20,
        ("rooms", 1, "inner", "list", 2): 22,
        ("rooms", 1, "inner", "list", 2, "k"): 22,
    }


def test_windows_line_ends_count_once() -> None:
    assert key_lines('a = 1\r\n[t]\r\nb = """x\r\ny"""\r\nc = 2\r\n') == {
        ("a",): 1,
        ("t",): 2,
        ("t", "b"): 3,
        ("t", "c"): 5,
    }


@attrs.frozen
class Written:
    """A piece of TOML, and on which of its lines (from 0) each path in it appears."""

    text: str
    marks: tuple[tuple[KeyPath, int], ...] = ()


# What a scanner could take for the end of something.
TRAPS = st.sampled_from(
    ["a", " ", "\n", '"', "'", "[", "]", "{", "}", "=", "#", ".", ",", "[x]\ny = 1", "\u2028"]
)
TEXTS = st.lists(TRAPS, max_size=6).map("".join)


def basic(text: str) -> str:
    return json.dumps(text)


def literal(text: str) -> str:
    return "'" + text.replace("'", "").replace("\n", "") + "'"


def multi_line_basic(text: str) -> str:
    return '"""' + text.replace('"', '\\"') + '"""'


def multi_line_literal(text: str) -> str:
    return "'''" + text.replace("'", "") + "'''"


SCALARS = st.one_of(
    st.sampled_from(
        ["1", "-1.5", "1e3", "inf", "true", "1979-05-27 07:32:00", "0x1f", '"""x"""""', "'''y''''"]
    ),
    st.builds(lambda write, text: write(text), st.sampled_from([basic, literal]), TEXTS),
    st.builds(
        lambda write, text: write(text), st.sampled_from([multi_line_basic, multi_line_literal]), TEXTS
    ),
).map(Written)
KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True), TEXTS.filter(bool))


def written_key(name: str) -> str:
    bare = name.isascii() and all(character.isalnum() or character in "-_" for character in name)
    return name if bare else basic(name)


@st.composite
def lists(draw: st.DrawFn, values: st.SearchStrategy[Written]) -> Written:
    gap = st.sampled_from(["", " ", "\n", " # ], not yet\n", "\n\n  "])
    text, marks = "[" + draw(gap), []
    for index, item in enumerate(draw(st.lists(values, max_size=3))):
        line = text.count("\n")
        marks += [((index,), line), *(((index, *path), line + at) for path, at in item.marks)]
        text += item.text + draw(gap) + "," + draw(gap)
    return Written(text + "]", tuple(marks))


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[Written]) -> Written:
    # Only a value may go over several lines here: TOML 1.0 allows no line end between the keys.
    pieces, marks, lines = [], [], 0
    for name, item in draw(st.dictionaries(KEYS, values, max_size=3)).items():
        marks += [((name,), lines), *(((name, *path), lines + at) for path, at in item.marks)]
        pieces.append(f"{written_key(name)} = {item.text}")
        lines += item.text.count("\n")
    return Written("{ " + ", ".join(pieces) + " }", tuple(marks))


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(lists(inner), inline_tables(inner)), max_leaves=6)


@attrs.define
class Page:
    """A document as it is being written, with the first line of each path."""

    text: str = ""
    lines: dict[KeyPath, int] = attrs.field(factory=dict)

    def mark(self, path: KeyPath, offset: int = 0) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1 + offset)

    def statement(self, table: KeyPath, names: tuple[str, ...], value: Written) -> None:
        for length in range(len(names)):
            self.mark((*table, *names[: length + 1]))
        for path, offset in value.marks:
            self.mark((*table, *names, *path), offset)
        self.text += " . ".join(map(written_key, names)) + " = " + value.text + "  #= 1\n"


@st.composite
def documents(draw: st.DrawFn) -> Page:
    page = Page()
    fill = st.sampled_from(["", "\n", "#[rooms]\n", "  \n\t"])

    def statements(table: KeyPath) -> None:
        for name, value in draw(st.dictionaries(KEYS, VALUES, max_size=3)).items():
            page.text += draw(fill)
            # Prefixed, so that no dotted key meets a table of the same name.
            dotted = draw(st.booleans())
            page.statement(table, (f"d{name}", "e") if dotted else (f"k{name}",), value)

    statements(())
    rooms = 0
    for number, kind in enumerate(
        draw(st.lists(st.sampled_from(["table", "deep", "rooms", "in room"]), max_size=5))
    ):
        page.text += draw(fill)
        name = f"t{number}"
        if kind == "rooms" or (kind == "in room" and not rooms):
            page.mark(("rooms",))
            page.mark(("rooms", rooms))
            page.text += "[[ rooms ]]\n"
            table: KeyPath = ("rooms", rooms)
            rooms += 1
        elif kind == "in room":
            table = ("rooms", rooms - 1, name)
            page.mark(table)
            page.text += f"[rooms.{name}] # [[rooms]]\n"
        else:
            table = (name, "b.c") if kind == "deep" else (name,)
            for length in range(len(table)):
                page.mark(table[: length + 1])
            page.text += f"[{name} . 'b.c']\n" if kind == "deep" else f"[{name}]\n"
        statements(table)
    return page


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


@given(documents())
def test_every_key_that_tomllib_finds_is_found_on_the_line_it_was_written(page: Page) -> None:
    assert set(page.lines) == set(paths_of(tomllib.loads(page.text)))
    assert key_lines(page.text) == page.lines
