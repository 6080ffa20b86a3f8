"""Values of the right type that cannot be meant, as copying, quoting and templates leave them. Pure."""

import re
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_network

from broker.config.keys import Key
from broker.config.patterns import matches
from broker.config.settings import UNIX_PEER, UNIX_PREFIX
from broker.model import is_dot_segment
from broker.output.text import is_utf8

MAX_SOCKET_PATH_BYTES = 103
"""That is all that some systems take (sockaddr_un.sun_path, with a NUL behind it)."""

_QUOTES = frozenset(
    {"''", '""', "``", "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"}
    | {"\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"}
)
_TEMPLATE = re.compile(r"\$\{[^{}]+\}|\$\([A-Za-z0-9_.-]+\)|\{\{.+\}\}|<[^<>]+>")
"""`${NAME}` of shells and compose files, `$(NAME)` of Kubernetes, `{{ name }}` of templates, `<your-secret>` of examples."""

MAY_BE_EMPTY = frozenset(
    {
        "auth.secret",
        "auth.previous_secret",
        "http.api_key",
        "http.previous_api_key",
        "http.previous_metrics_key",
    }
)
"""Secrets whose empty value counts as none, as templates leave it; a start without `--dev` refuses those it needs."""


def flaw_of(key: Key, value: object) -> str | None:
    """Return the flaw of a value whose type fits `key`, None if it has none. The text never holds the value."""
    texts = value if isinstance(value, tuple) else (value,)
    flaws = (_flaw_of_text(key, text) for text in texts if isinstance(text, str))
    return next((flaw for flaw in flaws if flaw is not None), None)


def flaw_of_pattern(text: str, earlier: Sequence[str] = ()) -> str | None:
    """Return why the pattern of a room rule decides nothing, None if it may; names may have blanks and quotes.

    `earlier` are the patterns of the rules before it, which win.
    """
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return "holds a control character or a line end, which no room's name has"
    if "/" in text:
        return "holds '/', which no room's name has"
    if is_dot_segment(text):
        return "is '.' or '..', which no room is called"
    for index, pattern in enumerate(earlier):
        # A star of the later pattern is a character that only a star of the earlier one takes.
        if matches(pattern, text):
            return f"never decides, as rooms[{index}] matches all of its rooms: the first match wins"
    return None


def _flaw_of_host(text: str) -> str | None:
    """Return why nothing can listen on a host, None if that is for the system to say."""
    if text.startswith(UNIX_PREFIX):
        if len(text.removeprefix(UNIX_PREFIX).encode()) in range(1, MAX_SOCKET_PATH_BYTES + 1):
            return None
        return f"is no Unix socket: unix: and a path of at most {MAX_SOCKET_PATH_BYTES} bytes"
    if text == "*":
        return "is no host: :: is every address"
    if any(character in text for character in "/?#@"):
        return "is a URL or a path: give the host alone, such as 127.0.0.1 or ::"
    address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in address:
        try:
            IPv6Address(address)
        except ValueError:
            return "is no IPv6 address; the port belongs in server.port"
    return None


def _flaw_of_proxy(text: str) -> str | None:
    """Return why no proxy can be trusted by a text."""
    if text == UNIX_PEER:
        return None
    try:
        network = ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            return "is an address with the length of a network: give the first address of the network, or the address alone"
        return "is no address or network, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8, and not unix"
    if network.prefixlen == 0:
        return "trusts everybody: any client could write its own address"
    return None


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
    elif key.dotted == "server.host":
        flaw = _flaw_of_host(text)
    elif key.dotted == "server.trusted_proxies":
        flaw = _flaw_of_proxy(text)
    return flaw
