"""Connections that wait are accepted all at once, and none is lost."""

import socket
from contextlib import ExitStack
from functools import partial

import pytest
import trio

from broker.transport.accepting import EagerListener

WAITING = 100


def connect_all(stack: ExitStack, address: tuple[str, int]) -> list[socket.socket]:
    return [stack.enter_context(socket.create_connection(address)) for _ in range(WAITING)]


async def test_all_that_wait_are_accepted_in_one_turn() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=WAITING)
    with ExitStack() as stack:
        clients = connect_all(stack, listener.socket.getsockname())
        turns = 0
        served: list[int] = []

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async def serve(stream: trio.SocketStream) -> None:
            served.append(stream.socket.getpeername()[1])
            if len(served) == WAITING:
                nursery.cancel_scope.cancel()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count_turns)
                nursery.start_soon(trio.serve_listeners, serve, [EagerListener(listener)])
        assert sorted(served) == sorted(client.getsockname()[1] for client in clients)
        assert turns < 20


async def test_each_is_served_as_it_comes_and_the_port_is_closed_at_the_end() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()

    async def echo(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, echo, [EagerListener(listener)]))
            for text in (b"one", b"two"):
                async with await trio.open_tcp_stream(*address) as client:
                    await client.send_all(text)
                    assert await client.receive_some() == text
            nursery.cancel_scope.cancel()
    with pytest.raises(OSError, match="refused"), socket.socket() as late:
        late.connect(address)
