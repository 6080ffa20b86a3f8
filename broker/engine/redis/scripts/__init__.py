"""The Lua scripts that run inside Redis, one file each."""

from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import TypeVar

import attrs

from broker.engine.redis.client.commands import (
    Argument,
    ScriptArguments,
    pack_arguments,
    pack_script_arguments,
)
from broker.engine.redis.client.errors import ScriptMissingError
from broker.engine.redis.client.link import Link
from broker.errors import EngineUnavailableError

T = TypeVar("T")


@attrs.frozen
class Script:
    """One script; Redis knows it by the hash of its text once it has run it."""

    text: str
    _packed_hash: bytes = attrs.field(init=False)

    @_packed_hash.default
    def _pack_hash(self) -> bytes:
        return pack_arguments("EVALSHA", sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, link: Link, keys: Sequence[str], *args: Argument, parse: Callable[[object], T]) -> T:
        """Run the script and return its reply, parsed. Its writes happen all or not at all.

        :raises EngineUnavailableError: if Redis refuses or cannot be reached; see `Link.request`.
        """
        return await self.run_packed(link, pack_script_arguments(keys, args), parse=parse)

    async def run_packed(self, link: Link, arguments: ScriptArguments, *, parse: Callable[[object], T]) -> T:
        """Run the script as `run` does."""
        try:
            return await link.request_packed(self._by_hash(arguments), parse=parse)
        except ScriptMissingError:
            # The server was restarted, or has never run it.
            return await link.request_packed(self._by_text(arguments), parse=parse)

    def run_soon(
        self,
        link: Link,
        arguments: ScriptArguments,
        *,
        parse: Callable[[object], T],
        on_done: Callable[[T | EngineUnavailableError], None],
    ) -> bool:
        """Run the script without waiting for its reply; see `Link.request_soon`."""

        def done(result: T | EngineUnavailableError) -> None:
            if type(result) is not ScriptMissingError or not link.request_soon(
                self._by_text(arguments), parse=parse, on_done=on_done
            ):
                on_done(result)

        return link.request_soon(self._by_hash(arguments), parse=parse, on_done=done)

    def _by_hash(self, arguments: ScriptArguments) -> bytes:
        return b"*%d\r\n%b%b" % (2 + arguments.count, self._packed_hash, arguments.packed)

    def _by_text(self, arguments: ScriptArguments) -> bytes:
        return b"*%d\r\n%b%b" % (2 + arguments.count, pack_arguments("EVAL", self.text), arguments.packed)


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
        return Script(prelude + directory.joinpath(f"{name}.lua").read_text())

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
