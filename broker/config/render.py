"""Settings as a TOML file, with the meaning and the origin of each key."""

import json
import re
from collections.abc import Iterator

import msgspec

from broker.config.findings import path_of
from broker.config.keys import Key, read_schema, tables_of
from broker.config.load import Loaded
from broker.config.secret_files import path_of_secret
from broker.config.settings import Settings


def render_settings(loaded: Loaded) -> str:
    """Return every key with its value, origin and meaning, as TOML that loads to the same settings.

    Secrets are left out: a comment shows whether they are set, and the files that they are read from are named. A password in the engine's URL is hidden.
    """
    return "\n".join(_lines(loaded)) + "\n"


def _lines(loaded: Loaded) -> Iterator[str]:
    schema = read_schema(Settings)
    for section, keys in schema.sections.items():
        yield f"[{section}]"
        for key in keys.values():
            yield from _setting(key, getattr(loaded.settings, section), loaded, None)
            if key.holds_secret:
                yield from _file_of(schema.files[section][f"{key.name}_file"], loaded)
        yield ""
    for section, keys in schema.lists.items():
        tables = tables_of(loaded.settings, section)
        if not tables:
            yield f"# [[{section}]]  # none is set"
        for index, table in enumerate(tables):
            yield f"[[{section}]]"
            for key in keys.values():
                yield from _setting(key, table, loaded, index)
                if key.holds_secret:
                    yield from _file_of(schema.files[section][f"{key.name}_file"], loaded, index)
            yield ""


def _setting(key: Key, table: msgspec.Struct, loaded: Loaded, index: int | None) -> Iterator[str]:
    value = getattr(table, key.name)
    origin = _printable(loaded.origins[path_of(key, index)])
    yield f"# {key.description}"
    if value is None:
        yield f"# {key.name} =  # {origin}: not set"
    elif key.is_secret or path_of(key, index) in loaded.secret_files:
        yield f'# {key.name} = "***"  # set, not shown; {origin}'
    else:
        yield f"{key.name} = {_toml(value)}  # {origin}"


def _file_of(key: Key, loaded: Loaded, index: int | None = None) -> Iterator[str]:
    file = loaded.secret_files.get(path_of_secret(key, index))
    yield f"# {key.description}"
    if file is None:
        yield f"# {key.name} =  # default: not set"
    else:
        yield f"{key.name} = {_toml(file.name)}  # {_printable(file.origin)}"


def _toml(value: object) -> str:
    """Booleans, numbers and lists are written in TOML as in JSON, and so are strings but for DEL."""
    if isinstance(value, str):
        return json.dumps(_without_password(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _without_password(text: str) -> str:
    """Hide the credentials of a URL: `redis://:password@host`."""
    return re.sub(r"(?<=://)[^/].*@", "***@", text)


def _printable(origin: str) -> str:
    """Keep a comment on its line, whatever the file is called."""
    return "".join(character if character.isprintable() else "?" for character in origin)
