"""The Lua scripts that run inside Redis, one file each."""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha1
from importlib.resources import files
from typing import TypeVar

import attrs

from broker.engine.redis.client.errors import ScriptMissingError
from broker.engine.redis.client.link import Link
from broker.errors import EngineUnavailableError

T = TypeVar("T")


@attrs.frozen
class Script:
    """One script; Redis knows it by the hash of its text once it has run it."""

    text: str
    sha: str

    async def run(
        self, link: Link, keys: Sequence[str], *args: str | bytes | int, parse: Callable[[object], T]
    ) -> T:
        """Run the script and return its reply, parsed. Its writes happen all or not at all.

        :raises EngineUnavailableError: if Redis refuses or cannot be reached; see `Link.request`.
        """
        try:
            return await link.request("EVALSHA", self.sha, len(keys), *keys, *args, parse=parse)
        except ScriptMissingError:
            # The server was restarted, or has never run it.
            return await link.request("EVAL", self.text, len(keys), *keys, *args, parse=parse)

    def run_soon(
        self,
        link: Link,
        keys: Sequence[str],
        *args: str | bytes | int,
        parse: Callable[[object], T],
        on_done: Callable[[T | EngineUnavailableError], None],
    ) -> bool:
        """Run the script without waiting for its reply; see `Link.request_soon`."""
        return link.request_soon(
            *("EVALSHA", self.sha, len(keys), *keys, *args),
            parse=parse,
            on_done=partial(self._run_missing, link, (len(keys), *keys, *args), parse, on_done),
        )

    def _run_missing(
        self,
        link: Link,
        rest: Sequence[str | bytes | int],
        parse: Callable[[object], T],
        on_done: Callable[[T | EngineUnavailableError], None],
        result: T | EngineUnavailableError,
    ) -> None:
        if type(result) is not ScriptMissingError or not link.request_soon(
            "EVAL", self.text, *rest, parse=parse, on_done=on_done
        ):
            on_done(result)


@attrs.frozen
class Scripts:
    """All scripts of the engine."""

    append: Script
    append_and_tell: Script
    """The same with the functions of the outbox, for events that queues of it get."""
    position: Script
    read: Script
    lease: Script
    announce: Script
    snapshot: Script
    summary: Script
    close: Script
    clear: Script
    revoke: Script
    attend: Script
    bury: Script
    lost_nodes: Script
    outbox_read: Script
    outbox_take: Script
    outbox_repeat: Script
    outbox_lease: Script
    outbox_count: Script
    room_load: Script
    room_peek: Script
    room_store: Script
    room_store_and_tell: Script
    """The same with the functions of the outbox."""
    room_release: Script
    room_timers: Script


def load_scripts() -> Scripts:
    """Read all scripts from their files."""
    directory = files(__name__)
    room, appending, outbox, book, alive = (
        directory.joinpath(f"{name}.lua").read_text()
        for name in ("room", "appending", "outbox", "book", "alive")
    )

    def load(name: str, prelude: str = "") -> Script:
        text = prelude + directory.joinpath(f"{name}.lua").read_text()
        return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    return Scripts(
        load("append", room + appending),
        load("append", room + outbox + appending),
        load("position", room),
        load("read", room),
        load("lease"),
        load("announce"),
        load("snapshot"),
        load("summary"),
        load("close"),
        load("clear", room),
        load("revoke"),
        load("attend", alive + outbox + book),
        load("bury", alive + outbox + book),
        load("lost_nodes"),
        load("outbox_read", outbox + book),
        load("outbox_take"),
        load("outbox_repeat"),
        load("outbox_lease"),
        load("outbox_count"),
        load("room_load", alive),
        load("room_peek", alive),
        load("room_store", room + appending),
        load("room_store", room + outbox + appending),
        load("room_release"),
        load("room_timers", alive),
    )
