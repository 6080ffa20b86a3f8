"""The settings of a server, with the origin of each.

Flags override the environment, the environment overrides the file, the file overrides the defaults.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import msgspec

from broker.config.findings import Findings, Found, path_of
from broker.config.keys import Schema, read_schema, tables_of
from broker.config.overrides import from_environment, from_flags
from broker.config.problems import Problem, refuse
from broker.config.secret_files import SecretFile, read_secret_files
from broker.config.settings import Settings
from broker.config.toml import from_toml
from broker.errors import ConfigurationError

MAX_FILE_BYTES = 1 << 20
"""A device such as /dev/zero has no end."""
DEFAULT = "default"
"""The origin of a setting that is not set."""


@attrs.frozen
class Loaded:
    """Settings, and the origin of each by dotted key (`limits.connections`, `rooms[0].access`).

    An origin is `default`, `FILE:LINE`, the name of a variable, or a flag; that of a secret from a file has the file's
    name behind it, in brackets.
    """

    settings: Settings = attrs.field(repr=False)
    origins: Mapping[str, str]
    secret_files: Mapping[str, SecretFile] = attrs.field(factory=dict)
    """The files that secrets were read from, by the dotted key of the secret."""


def load_settings(*, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Fill the settings; `flags` are named by the dotted key that they set, None when not given.

    `broker.config.check` checks the values together.

    Secrets may stand in files of their own, which `NAME_file` names in the place of `NAME`.

    :raises ConfigurationError: if a file cannot be read, or a key is unknown or a value bad anywhere.
        Its text has a line for each mistake, with its file and line, variable or flag.
    """
    schema = read_schema(Settings)
    findings = [
        from_toml(_read(file), schema, file=str(file)) if file else Findings(),
        from_environment(environ, schema),
        from_flags(flags, schema),
    ]
    refuse(chain.from_iterable(each.problems for each in findings))
    contents = read_secret_files([each.found for each in findings], schema)
    refuse(contents.problems)
    settings = _assemble(contents.found)
    return Loaded(settings, _origins(schema, settings, contents.found), contents.files)


def _read(file: Path) -> str:
    try:
        # Editors on Windows begin a file with a byte order mark, which is no part of the text (RFC 3629 section 6).
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigurationError(str(Problem(str(file), "is larger than 1 MiB")))
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            str(Problem(str(file), f"must be UTF-8 (byte {error.start} is not)"))
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(str(Problem(str(file), f"cannot be read: {reason}"))) from error


def _assemble(found: Iterable[Found]) -> Settings:
    tree: dict[str, Any] = {}
    for item in found:
        *parents, last = item.key.section.split(".")
        parent = tree
        for name in parents:
            parent = parent.setdefault(name, {})
        if item.index is None:
            parent.setdefault(last, {})[item.key.name] = item.value
        else:
            tables = parent.setdefault(last, [])
            # A table whose keys are all absent was refused: one of them is required.
            if item.index == len(tables):
                tables.append({})
            tables[item.index][item.key.name] = item.value
    return msgspec.convert(tree, Settings)


def _origins(schema: Schema, settings: Settings, found: Iterable[Found]) -> dict[str, str]:
    origins = {key.dotted: DEFAULT for key in schema.plain_keys()}
    for section, keys in schema.lists.items():
        for index in range(len(tables_of(settings, section))):
            origins |= {path_of(key, index): DEFAULT for key in keys.values()}
    return origins | {item.path: item.origin for item in found}
