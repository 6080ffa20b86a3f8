"""`connect`: makes a client, with its connection and its tokens."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from typing import TypeAlias

import anyio

from actors.groups import raising_sole_error
from broker.client.address import parse_address
from broker.client.backoff import Reconnects
from broker.client.client import ROOM_BYTES, Client, State
from broker.client.errors import NO_CODE, ClosedError
from broker.client.refresh import Refresh
from broker.client.socket import Socket, SocketClosed, hold_socket
from broker.client.streams import Dial, adapt, dial_tcp
from broker.client.token import clean_token
from broker.clocks import Clock, SleepAwareClock
from broker.errors import CloseCode

Token: TypeAlias = str | Callable[[], Awaitable[str]]

CONNECT_SECONDS = 10.0


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token,
    reconnects: bool = True,
    on_state: Callable[[State], None] = lambda _state: None,
    ssl_context: ssl.SSLContext | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
    room_bytes: int = ROOM_BYTES,
    compression: bool = False,
    dial: Dial | None = None,
    random: Random | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Client]:
    """Connect to the server at `url` (http, https, ws or wss) for the block, under trio or asyncio.

    Returns at once; `Client.join` waits for the connection. After a loss it reconnects with a delay with full jitter,
    of up to 1 s at first and up to 5 s later, or a quarter of the outage (30 s at most), or at the time that the server
    has named, but never after close codes 40xx and 1000; every room is then resumed where it was. With
    `reconnects=False` the first loss ends the client.

    `token` is a token, or an async function called for one before each connection, and again when 75 to 85 % of the
    token's time have passed: the connection goes on with the new token, and nobody is told that its user left. Its
    OSError counts as a failed attempt, and so does a token that has expired, is not valid yet, or does not hold longer
    than the present one; any other exception ends the client. White space around a token is dropped; one with
    characters that no token has ends the client as a refused one does (4001).
    `on_state` is called with every change. `timeout_seconds` bounds one attempt. `room_bytes` bounds the messages that
    wait in each room for the application: beyond, new ones are dropped, and recovered from the server later. With
    `compression` permessage-deflate (RFC 7692) is offered, which the server accepts if its `websocket.compression` is
    set. `dial` opens the byte stream instead of TCP, a stream of trio. `clock` gives seconds that go on while the machine sleeps; by it the client
    knows whether the server still remembers an id.

    Leaving the block closes the connection (at most a second). An exception of the block comes out as it is.

    :raises ValueError: if `url` is no address.
    """
    address = parse_address(url)
    open_stream = dial_tcp(address, ssl_context) if dial is None else adapt(dial)
    random = random or SystemRandom()
    clock = clock or SleepAwareClock(anyio.current_time)

    async def get_token() -> str:
        try:
            return token if isinstance(token, str) else await token()
        except OSError:
            raise
        except Exception as error:
            # The application's own error: raised in its calls.
            raise ClosedError(NO_CODE, f"no token: {error!r}") from error

    async def connect_once(talk: Callable[[Socket, str], Awaitable[None]]) -> SocketClosed:
        try:
            bearer = clean_token(await get_token())
        except OSError as error:
            return SocketClosed(NO_CODE, f"no token: {error}")
        if bearer is None:
            # As the server would refuse it.
            return SocketClosed(CloseCode.UNAUTHORIZED, "the token is malformed")
        return await hold_socket(
            open_stream,
            address,
            bearer,
            talk,
            clock,
            timeout_seconds=timeout_seconds,
            compression=compression,
        )

    def make_refresh(send: Callable[[str], None]) -> Refresh:
        return Refresh(get_token, send, random)

    client = Client(
        connect_once,
        make_refresh=None if isinstance(token, str) else make_refresh,
        reconnects=Reconnects(random),
        is_lasting=reconnects,
        on_state=on_state,
        room_bytes=room_bytes,
        clock=clock,
    )
    with raising_sole_error():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            yield client
            tasks.cancel_scope.cancel()
