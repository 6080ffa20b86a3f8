"""The keys of a configuration, derived from the `Settings` type."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec
import msgspec.inspect as types

SHORT_VARIABLES: Mapping[str, str] = {
    "auth.secret": "GREENROOM_SECRET",
    "auth.previous_secret": "GREENROOM_PREVIOUS_SECRET",
    "http.api_key": "GREENROOM_API_KEY",
    "http.previous_api_key": "GREENROOM_PREVIOUS_API_KEY",
    "http.metrics_key": "GREENROOM_METRICS_KEY",
    "http.previous_metrics_key": "GREENROOM_PREVIOUS_METRICS_KEY",
    "redis.password": "GREENROOM_REDIS_PASSWORD",
}
"""The secrets, and the variables that an operator knows them by. Their values are shown nowhere."""

TABLE_SECRETS = frozenset(
    {
        "http.api_keys.key",
        "http.api_keys.previous_key",
        "auth.issuers.secret",
        "auth.issuers.previous_secret",
        "hooks.secret",
        "hooks.previous_secret",
        "webhooks.secret",
        "webhooks.previous_secret",
    }
)
"""The secrets in lists of tables, which have no variables. Their values are shown nowhere."""

SECRETS = frozenset(SHORT_VARIABLES) | TABLE_SECRETS
"""The dotted keys of all secrets."""

Section: TypeAlias = type[msgspec.Struct]

FileName = Annotated[str, msgspec.Meta(min_length=1)]


@attrs.frozen
class Key:
    """One setting: its name, type, default and meaning.

    `kind` is its type as msgspec describes it; `default` is `msgspec.NODEFAULT` for a required key.
    """

    section: str
    name: str
    annotation: Any
    kind: types.Type
    default: object
    description: str
    content_of: str = ""
    """Of the key of a file: the name of the key whose value the file holds."""

    @property
    def dotted(self) -> str:
        """The key as a TOML file would write it outside of any table."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        if self.content_of:
            short = SHORT_VARIABLES.get(f"{self.section}.{self.content_of}")
            return self.long_variable if short is None else f"{short}_FILE"
        return SHORT_VARIABLES.get(self.dotted, self.long_variable)

    @property
    def long_variable(self) -> str:
        """The variable named by rule: prefix, section, two underscores, key."""
        return f"GREENROOM_{self.section}__{self.name}".upper()

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.dotted in SECRETS

    @property
    def holds_secret(self) -> bool:
        """Whether its value may contain a secret: a URL may have a password."""
        return self.is_secret or self.dotted == "server.engine"

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is msgspec.NODEFAULT

    @property
    def is_list(self) -> bool:
        """Whether it holds several values."""
        return isinstance(self.kind, types.VarTupleType)

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return _in_words(self.kind)


@attrs.frozen
class Schema:
    """All keys: those of the tables, and those of the lists of tables (`[[rooms]]`, `[[http.api_keys]]`).

    For each key that holds a secret there is one more, `NAME_file`: the file to read the secret from. It is no field of
    the settings.
    """

    sections: dict[str, dict[str, Key]]
    lists: dict[str, dict[str, Key]]
    """The keys of each list of tables, by its dotted name."""
    files: dict[str, dict[str, Key]]
    """The keys of files, by section or list."""

    def plain_keys(self) -> Iterator[Key]:
        """Every key of the plain tables, in the order of the type."""
        for section in self.sections.values():
            yield from section.values()

    def file_keys(self) -> Iterator[Key]:
        """Every key of a file, but those of lists of tables."""
        for section in self.sections:
            yield from self.files[section].values()

    def known_keys(self) -> Iterator[Key]:
        """Every key that a source may set once: those of the plain tables, and those of files."""
        yield from self.plain_keys()
        yield from self.file_keys()

    def find(self, dotted: str) -> Key | None:
        """Return the key of that dotted name, None when there is none."""
        section, _, name = dotted.partition(".")
        return self.sections.get(section, {}).get(name) or self.files.get(section, {}).get(name)

    def secret_of(self, file_key: Key) -> Key:
        """Return the key whose value the file of `file_key` holds."""
        return (self.sections | self.lists)[file_key.section][file_key.content_of]


@cache  # 20 ms of a slow processor, and a start reads it several times
def read_schema(settings: Section) -> Schema:
    """Return the keys of a struct whose fields are structs, or tuples of structs; those structs may hold tuples of structs."""
    sections: dict[str, dict[str, Key]] = {}
    lists: dict[str, dict[str, Key]] = {}
    for field in msgspec.structs.fields(settings):
        kind, _ = _kind_of(field.type)
        if isinstance(kind, types.StructType):
            keys = _keys_of(field.name, kind.cls)
            tables = {key.dotted: table for key in keys.values() if (table := _table_of(key.kind))}
            sections[field.name] = {name: key for name, key in keys.items() if key.dotted not in tables}
            lists |= {dotted: _keys_of(dotted, table) for dotted, table in tables.items()}
        else:
            table = _table_of(kind)
            assert table is not None
            lists[field.name] = _keys_of(field.name, table)
    files = {section: _file_keys_of(keys) for section, keys in (sections | lists).items()}
    return Schema(sections, lists, files)


def tables_of(settings: msgspec.Struct, dotted: str) -> tuple[msgspec.Struct, ...]:
    """Return the tables of the list of that dotted name."""
    value: Any = settings
    for name in dotted.split("."):
        value = getattr(value, name)
    tables: tuple[msgspec.Struct, ...] = value
    return tables


def _table_of(kind: types.Type) -> Section | None:
    """Return the struct of a list of tables; None for any other type."""
    if isinstance(kind, types.VarTupleType) and isinstance(kind.item_type, types.StructType):
        return kind.item_type.cls
    return None


def nearest_key(asked: str, keys: Iterable[Key]) -> Key:
    """Return the key most similar to `asked`, as a whole or by its last part alone (`port`)."""
    last = asked.rpartition(".")[2]
    return max(keys, key=lambda key: max(_likeness(asked, key.dotted), _likeness(last, key.name)))


def nearest(asked: str, known: Iterable[str]) -> str:
    """Return the known name most similar to `asked`."""
    return max(known, key=lambda name: _likeness(asked, name))


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _keys_of(section: str, struct: Section) -> dict[str, Key]:
    keys = {}
    for field in msgspec.structs.fields(struct):
        kind, description = _kind_of(field.type)
        keys[field.name] = Key(section, field.name, field.type, kind, field.default, description)
    return keys


def _file_keys_of(keys: Mapping[str, Key]) -> dict[str, Key]:
    secrets = [key for key in keys.values() if key.holds_secret]
    return {
        f"{key.name}_file": Key(
            key.section,
            f"{key.name}_file",
            FileName,
            types.type_info(str),
            None,
            f"file that holds {key.dotted}, instead of it",
            content_of=key.name,
        )
        for key in secrets
    }


def _kind_of(annotation: Any) -> tuple[types.Type, str]:
    kind = types.type_info(annotation)
    if isinstance(kind, types.Metadata):
        return kind.type, (kind.extra_json_schema or {}).get("description", "")
    return kind, ""


def _in_words(kind: types.Type) -> str:
    match kind:
        case types.BoolType():
            words = "true or false"
        case types.IntType():
            words = "a whole number" + _bounds(kind)
        case types.FloatType():
            words = "a number" + _bounds(kind)
        case types.StrType():
            words = "text" + _lengths(kind, "characters")
        case types.LiteralType():
            words = "one of " + ", ".join(map(str, kind.values))
        case types.VarTupleType():
            words = f"a list{_lengths(kind, 'items')}, each {_in_words(kind.item_type)}"
        case types.UnionType():
            words = " or ".join(_in_words(one) for one in kind.types if not isinstance(one, types.NoneType))
        case _:
            raise TypeError(f"a setting of type {kind!r} has no words yet")
    return words


def _bounds(kind: types.IntType | types.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    bounds = {"at least": kind.ge, "above": kind.gt, "at most": kind.le, "below": kind.lt}
    text = " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)
    return f" {text}" if text else ""


def _lengths(kind: types.StrType | types.VarTupleType, unit: str) -> str:
    if kind.max_length is not None:
        return f" of {kind.min_length or 0} to {kind.max_length} {unit}"
    return f" of {kind.min_length} or more {unit}" if kind.min_length else ""
