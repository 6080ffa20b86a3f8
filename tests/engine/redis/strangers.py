"""Programs on the port of Redis that are no Redis, or a broken one."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs
import hiredis
import trio

from tests.support.redis_proxy import Proxy

GREETING = (
    b"*6\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n8.0.0\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
)

Stranger = Callable[[trio.SocketStream], object]


async def speak(stream: trio.SocketStream, first: bytes) -> None:
    """Say something at once, and nothing ever after."""
    await stream.send_all(first)
    await trio.sleep_forever()


async def answer(
    stream: trio.SocketStream, reply: bytes, *, greeting: bytes = GREETING, most: int = 1 << 30
) -> None:
    """Answer the greeting well, and each command with `reply`; close after `most` of them."""
    reader = hiredis.Reader()
    answered = 0
    async for data in stream:
        reader.feed(bytes(data))
        while (command := reader.gets()) is not False:
            await stream.send_all(greeting if command[:1] == [b"HELLO"] else reply)
            answered += 1
            if answered >= most:
                return


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def close(stream: trio.SocketStream) -> None:
    """Say nothing and close."""


def _answers(name: str, reply: bytes, **options: bytes) -> dict[str, Stranger]:
    return {name: partial(answer, reply=reply, **options)}


STRANGERS: dict[str, Stranger] = {
    "an HTTP server": partial(speak, first=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "an SMTP server": partial(speak, first=b"220 mail.example ESMTP\r\n"),
    "an SSH server": partial(speak, first=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "noise": partial(speak, first=bytes(range(256))),
    "an echo": echo,
    "silence": partial(speak, first=b""),
    "a closed door": close,
    "surplus greetings": partial(speak, first=b"+OK\r\n+OK\r\n"),
    "half a greeting": partial(speak, first=GREETING[:20]),
    "a greeting of RESP 3": partial(speak, first=b"%1\r\n$7\r\nversion\r\n$5\r\n8.0.0\r\n"),
    "a greeting with an odd version": partial(speak, first=GREETING.replace(b"8.0.0", b"x\xff..1")),
    "a greeting without a version": partial(speak, first=GREETING.replace(b"version", b"variant")),
    "an odd greeting": partial(speak, first=b"*3\r\n$6\r\nserver\r\n*0\r\n$7\r\n"),
    "a greeting of nulls": partial(speak, first=b"*2\r\n$-1\r\n$-1\r\n"),
    "a map that no dict can hold": partial(speak, first=b"%1\r\n*0\r\n:1\r\n"),
    "a huge array": partial(speak, first=b"*2147483647\r\n"),
    "a huge bulk": partial(speak, first=b"$2147483647\r\nx"),
    "protected mode": partial(speak, first=b"-DENIED Redis is running in protected mode\r\n"),
    "an error that is no UTF-8": partial(speak, first=b"-\xff\xfe\r\n"),
    **_answers("surplus replies", b":1\r\n:1\r\n"),
    **_answers("numbers", b":1\r\n"),
    **_answers("strings", b"$2\r\nOK\r\n"),
    **_answers("simple strings", b"+OK\r\n"),
    **_answers("nulls", b"$-1\r\n"),
    **_answers("null arrays", b"*-1\r\n"),
    **_answers("empty arrays", b"*0\r\n"),
    **_answers("nested arrays", b"*1\r\n*1\r\n*1\r\n*0\r\n"),
    **_answers("arrays too deep", b"*1\r\n" * 12 + b":1\r\n"),
    **_answers("errors in arrays", b"*3\r\n-ERR a\r\n-ERR b\r\n:1\r\n"),
    **_answers("strings that are no UTF-8", b"*3\r\n$2\r\n\xff\xfe\r\n:1\r\n:1\r\n"),
    **_answers("pushes", b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"),
    **_answers("doubles and booleans", b"*3\r\n,nan\r\n#t\r\n_\r\n"),
    **_answers("a huge array later", b"*2147483647\r\n"),
    **_answers("a huge bulk later", b"$2147483647\r\nxx"),
    **_answers("half replies", b"*2\r\n:1\r\n"),
    **_answers("messages of others", b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n"),
    **_answers("confirmations of others", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"),
    **_answers("confirmations that are lists", b"*3\r\n$9\r\nsubscribe\r\n*0\r\n*0\r\n"),
    **_answers("READONLY", b"-READONLY You can't write against a read only replica.\r\n"),
    **_answers("MASTERDOWN", b"-MASTERDOWN Link with MASTER is down\r\n"),
    **_answers("LOADING", b"-LOADING Redis is loading the dataset in memory\r\n"),
    **_answers("NOAUTH", b"-NOAUTH Authentication required.\r\n"),
    **_answers("ERR", b"-ERR upstream failure\r\n"),
    "a reply and no more": partial(answer, reply=b":1\r\n", most=2),
}


@attrs.define(eq=False)
class Switch(Proxy):
    """A port at which either a stranger or the real server answers."""

    stranger: Stranger | None = None
    strangers_connections: int = 0

    def turn(self, stranger: Stranger | None) -> None:
        """Let a stranger answer, or the server again; connections that are open are cut."""
        self.stranger = stranger
        for scope in list(self._scopes):
            scope.cancel()
        self.cut(self.routes)

    _scopes: set[trio.CancelScope] = attrs.Factory(set)

    async def pass_on(self, client: trio.SocketStream) -> None:
        if self.stranger is None:
            await super().pass_on(client)
            return
        self.strangers_connections += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, hiredis.HiredisError):
                await self.stranger(client)  # type: ignore[misc]
        self._scopes.discard(scope)
        await trio.aclose_forcefully(client)
