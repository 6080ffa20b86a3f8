"""The Lua scripts that run inside Redis, each a file beside this one."""

from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import TypeVar

import attrs

from broker.engine.redis.errors import ScriptMissingError
from broker.engine.redis.link import Link

T = TypeVar("T")


@attrs.frozen
class Script:
    """One script, which Redis knows by the hash of its text once it has run it."""

    text: str
    sha: str

    async def run(
        self, link: Link, keys: Sequence[str], *args: str | bytes | int, parse: Callable[[object], T]
    ) -> T:
        """Run it; all or nothing. Returns what `parse` makes of the reply.

        :raises EngineUnavailableError: if Redis refuses or cannot be reached; see `Link.ask`.
        """
        try:
            return await link.ask("EVALSHA", self.sha, len(keys), *keys, *args, parse=parse)
        except ScriptMissingError:
            # A server that was restarted, or asked for the first time.
            return await link.ask("EVAL", self.text, len(keys), *keys, *args, parse=parse)


@attrs.frozen
class Scripts:
    """All scripts of the engine."""

    append: Script
    position: Script
    read: Script
    lease: Script
    announce: Script
    snapshot: Script
    glance: Script
    close: Script


def load_scripts() -> Scripts:
    """Read the files."""
    directory = files(__name__)
    room = directory.joinpath("room.lua").read_text()

    def load(name: str, prelude: str = "") -> Script:
        text = prelude + directory.joinpath(f"{name}.lua").read_text()
        return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    return Scripts(
        load("append", room),
        load("position", room),
        load("read", room),
        load("lease"),
        load("announce"),
        load("snapshot"),
        load("glance"),
        load("close"),
    )
