"""rediss:// with certificates made for the test."""

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from broker.errors import ConfigurationError, EngineUnavailableError
from tests.certificates import make_certificate
from tests.engine.redis.opened import KEEP, draft, opened, opened_impatient, wait_ready
from tests.support.redis import RedisServer


@pytest.fixture
async def tls_port(redis: RedisServer, tmp_path: Path) -> AsyncIterator[int]:
    """Take off TLS at this port, in front of a server that was built without it."""
    _, context = make_certificate(tmp_path)

    async def pass_on(client: trio.SSLStream[trio.SocketStream]) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", redis.port)
        async with stream as server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, server, client, nursery.cancel_scope)
            await pump(client, server, nursery.cancel_scope)

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, pass_on, listeners))
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def pump(source: trio.abc.Stream, target: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await source.receive_some(65_536):
            await target.send_all(data)
    scope.cancel()


async def test_rooms_are_kept_over_tls(tls_port: int, tmp_path: Path) -> None:
    async with opened(f"rediss://127.0.0.1:{tls_port}", ca_file=str(tmp_path / "test.crt")) as engine:
        await wait_ready(engine)
        await engine.append("den", [draft(1, size=200_000)], KEEP)
        assert [event.content for event in (await engine.read("den")).events] == [
            draft(1, size=200_000).content
        ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_certificate_that_is_not_to_be_trusted_stops_the_start(
    tls_port: int, tmp_path: Path, host: str
) -> None:
    """Signed by nobody known, or made out to another name."""
    ca_file = None if host == "127.0.0.1" else str(tmp_path / "test.crt")
    with pytest.raises(ConfigurationError, match=r"redis\.ca_file"):
        async with opened(f"rediss://{host}:{tls_port}", ca_file=ca_file):
            pytest.fail("opened")


async def test_a_file_of_authorities_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "rubbish.pem").write_text("rubbish")
    for name in ("rubbish.pem", "nothing.pem"):
        with pytest.raises(ConfigurationError, match=r"^redis\.ca_file: "):
            async with opened("rediss://127.0.0.1:1", ca_file=str(tmp_path / name)):
                pytest.fail("opened")


async def test_a_server_without_tls_is_told_so(redis: RedisServer) -> None:
    async with opened_impatient(redis.url.replace("redis:", "rediss:")) as engine:
        with pytest.raises(EngineUnavailableError, match="no connection within"):
            await engine.wait_ready()
