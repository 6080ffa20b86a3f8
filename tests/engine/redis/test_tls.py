"""rediss:// with certificates made for the test."""

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.errors import ConfigurationError, EngineUnavailableError
from tests.engine.redis.opened import KEEP, draft, opened, wait_ready
from tests.engine.redis.servers import RedisServer


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / "redis.crt", directory / "redis.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_path, key_path


@pytest.fixture
async def tls_port(redis: RedisServer, tmp_path: Path) -> AsyncIterator[int]:
    """Take off TLS at this port, in front of a server that was built without it."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

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
    async with opened(f"rediss://127.0.0.1:{tls_port}", ca_file=str(tmp_path / "redis.crt")) as engine:
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
    ca_file = None if host == "127.0.0.1" else str(tmp_path / "redis.crt")
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
    async with opened(redis.url.replace("redis:", "rediss:")) as engine:
        with pytest.raises(EngineUnavailableError, match="no connection within"):
            await engine.wait_ready()
