"""The valid values of one source of settings, with their origins, and the problems of the others."""

import attrs
import msgspec

from broker.config.keys import Key
from broker.config.problems import Problem

_SHOWN_CHARACTERS = 60


@attrs.frozen
class Found:
    """A value that one source gives to one key. `index` counts the tables of a list such as `[[rooms]]`."""

    key: Key
    value: object = attrs.field(repr=False)
    origin: str
    index: int | None = None

    @property
    def path(self) -> str:
        """The key as messages and origins name it: `limits.connections`, `rooms[0].access`."""
        return path_of(self.key, self.index)


@attrs.define
class Findings:
    """Collects the values and problems of one source; does not stop at the first problem."""

    found: list[Found] = attrs.field(factory=list)
    problems: list[Problem] = attrs.field(factory=list)

    def add(
        self, key: Key, value: object, origin: str, *, index: int | None = None, strict: bool = True
    ) -> None:
        """Keep `value` if `key` may hold it, else note a problem.

        Unless `strict`, text may stand for numbers and booleans, as in the environment.
        """
        try:
            converted = msgspec.convert(value, key.annotation, strict=strict)
        except msgspec.ValidationError:
            shown = "" if key.holds_secret else f", not {_shown(value)}"
            self.note(f"{origin}: {path_of(key, index)}", f"must be {key.allowed}{shown}")
        else:
            self.found.append(Found(key, converted, origin, index))

    def note(self, place: str, message: str) -> None:
        """Note a problem at `place`."""
        self.problems.append(Problem(place, message))


def path_of(key: Key, index: int | None) -> str:
    """Return `section.name`, or `section[index].name` for a key of a table in a list."""
    return key.dotted if index is None else f"{key.section}[{index}].{key.name}"


def suggest(key: Key, index: int | None = None) -> str:
    """Return the message for an unknown key, with `key` as the nearest known one."""
    return f"no such key; the nearest known is {path_of(key, index)} ({key.description}), {key.allowed}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
