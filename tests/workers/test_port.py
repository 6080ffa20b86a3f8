"""One port that several listen on, and nobody else."""

import socket

import pytest
import trio

from broker.config.settings import ServerSettings
from broker.workers.port import open_shared_listeners, reserve_port


def settings(port: int, host: str = "127.0.0.1") -> ServerSettings:
    return ServerSettings(host=host, port=port)


async def test_two_listen_and_every_connection_reaches_one_of_them():
    with reserve_port(settings(0)) as port:
        groups = [open_shared_listeners(settings(port)) for _ in range(2)]
        reached = [0, 0]

        async with trio.open_nursery() as nursery:
            for index, listeners in enumerate(groups):

                async def count(stream: trio.SocketStream, index: int = index) -> None:
                    reached[index] += 1
                    await stream.send_all(b"x")

                await nursery.start(trio.serve_listeners, count, listeners)
            for _ in range(60):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    assert await stream.receive_some(1) == b"x"
            nursery.cancel_scope.cancel()
    assert sum(reached) == 60
    assert min(reached) > 0, "the kernel deals them out"


async def test_nobody_is_reached_while_it_is_only_reserved():
    with reserve_port(settings(0)) as port, pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_another_has_is_refused(shares):
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"), reserve_port(settings(other.getsockname()[1])):
            pytest.fail("reserved")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_ipv6_has_a_port_of_its_own():
    with reserve_port(settings(0, "::1")) as port:
        (listener,) = open_shared_listeners(settings(port, "::1"))
        assert listener.socket.getsockname()[:2] == ("::1", port)
        await listener.aclose()
