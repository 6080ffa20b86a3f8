"""The settings that a running server takes over from a changed configuration. Pure."""

import attrs
import msgspec

from broker.config.keys import SHORT_VARIABLES, read_schema, tables_of
from broker.config.settings import Settings

_SECTIONS = frozenset({"auth", "limits", "websocket"})
_NOT_RELOADED = frozenset({"auth.private_user_rooms", "limits.rooms", "limits.mailbox_messages"})
"""Of those sections: parts that rooms were started with."""
_FILES = frozenset({"server.tls_cert_file", "server.tls_key_file", "server.tls_client_ca_file"})
"""Keys that name files and are reloaded; but TLS itself, and certificates of clients, come and go with a restart."""
_KEYS = frozenset(
    {
        "log.level",
        "http.api_keys",
        "server.tls_handshake_seconds",
        *_FILES,
        *(key for key in SHORT_VARIABLES if key.startswith("http.")),
    }
)


@attrs.frozen
class ReloadPlan:
    """The settings after a reload, and what a reload does to each changed key."""

    settings: Settings = attrs.field(repr=False)
    reloaded: tuple[str, ...]
    """Changed keys that hold from now on: limits and `websocket` for new connections."""
    needs_restart: tuple[str, ...]
    """Changed keys whose old values stay."""


def is_reloaded(dotted: str) -> bool:
    """Whether a running server takes over a change of this key."""
    return dotted in _KEYS or (dotted.partition(".")[0] in _SECTIONS and dotted not in _NOT_RELOADED)


def plan_reload(present: Settings, changed: Settings) -> ReloadPlan:
    """Return what of `changed` a server that runs with `present` takes over."""
    reloaded, needs_restart = [], []
    settings = present
    for key in read_schema(Settings).plain_keys():
        value = getattr(getattr(changed, key.section), key.name)
        if value == getattr(getattr(present, key.section), key.name):
            continue
        # Something that comes or goes changes how the port is served, or which requests the gate lets in.
        is_whole = key.dotted == "http.metrics_key" or key.dotted in _FILES
        comes_or_goes = is_whole and None in {value, getattr(getattr(present, key.section), key.name)}
        if not is_reloaded(key.dotted) or comes_or_goes:
            needs_restart.append(key.dotted)
            continue
        reloaded.append(key.dotted)
        section = msgspec.structs.replace(getattr(settings, key.section), **{key.name: value})
        settings = msgspec.structs.replace(settings, **{key.section: section})
    for dotted in read_schema(Settings).lists:
        if tables_of(changed, dotted) == tables_of(present, dotted):
            continue
        section, _, name = dotted.partition(".")
        if not is_reloaded(dotted):
            needs_restart.append(dotted)
            continue
        reloaded.append(dotted)
        table = msgspec.structs.replace(getattr(settings, section), **{name: tables_of(changed, dotted)})
        settings = msgspec.structs.replace(settings, **{section: table})
    return ReloadPlan(settings, tuple(reloaded), tuple(needs_restart))
