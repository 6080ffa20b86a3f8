"""The Lua scripts that run inside Redis, each a file beside this one."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files

import attrs
import hiredis

from broker.engine.redis.errors import unavailable
from broker.engine.redis.link import Link


@attrs.frozen
class Script:
    """One script, which Redis knows by the hash of its text once it has run it."""

    text: str
    sha: str

    async def run(self, link: Link, keys: Sequence[str], *args: str | bytes | int) -> object:
        """Run it; all or nothing.

        :raises EngineUnavailableError: if Redis refuses or cannot be reached; see `Link.ask`.
        """
        reply = await link.ask("EVALSHA", self.sha, len(keys), *keys, *args)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            # A server that was restarted, or asked for the first time.
            reply = await link.ask("EVAL", self.text, len(keys), *keys, *args)
        if isinstance(reply, hiredis.ReplyError):
            raise unavailable(reply)
        return reply


@attrs.frozen
class Scripts:
    """All scripts of the engine."""

    append: Script
    position: Script
    read: Script
    lease: Script
    announce: Script
    crowds: Script
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
        load("crowds"),
        load("glance"),
        load("close"),
    )
