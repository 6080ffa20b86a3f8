"""Values of the right type that nobody can have meant: what copying, quoting and templates leave around them. Pure."""

import re
import unicodedata

from broker.config.keys import Key
from broker.output.text import is_utf8

_QUOTES = frozenset(
    {"''", '""', "``", "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"}
    | {"\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"}
)
_TEMPLATE = re.compile(r"\$\{[^{}]+\}|\$\([A-Za-z0-9_.-]+\)|\{\{.+\}\}|<[^<>]+>")
"""`${NAME}` of shells and compose files, `$(NAME)` of Kubernetes, `{{ name }}` of templates, `<your-secret>` of examples."""

MAY_BE_EMPTY = frozenset({"auth.secret", "http.api_key"})
"""Keys of which an empty value is as good as none, which a start without `--dev` refuses, with advice."""


def flaw_of(key: Key, value: object) -> str | None:
    """Return what is wrong with a value that `key` may hold by its type, None if nothing is; never the value."""
    texts = value if isinstance(value, tuple) else (value,)
    flaws = (_flaw_of_text(key, text) for text in texts if isinstance(text, str))
    return next((flaw for flaw in flaws if flaw is not None), None)


def flaw_of_pattern(text: str) -> str | None:
    """Return why no room's name can match the pattern of a rule, None if one can; names may have blanks and quotes."""
    if not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return None
    return "holds a control character or a line end, which no room's name has"


def _flaw_of_text(key: Key, text: str) -> str | None:
    flaw = None
    if not text:
        flaw = None if key.dotted in MAY_BE_EMPTY else "is empty: give it a value, or leave it out"
    elif not is_utf8(text):
        flaw = "must be UTF-8"
    elif text[-1] in "\r\n":
        flaw = "ends with a line end, as a file or .env leaves one: take that away"
    elif any(not character.isprintable() and character != " " for character in text):
        flaw = "holds a control character or a line end"
    elif text != text.strip():
        flaw = "has blanks around it: take those away"
    elif len(text) > 1 and text[0] + text[-1] in _QUOTES:
        flaw = "has quotes around it, which are part of the value: take those away"
    elif _TEMPLATE.fullmatch(text):
        flaw = "is a placeholder that nothing was put in for: give the value itself"
    return flaw
