"""Where the server listens: every address of a host on one port, Unix sockets, and how all of them are called."""

import socket
from functools import partial

import msgspec
import pytest
import trio

from broker import open_broker
from broker.config.settings import ServerSettings, Settings
from broker.transport.listening import authority, open_listeners, peer_address, url_of
from tests.support.secrets import API_KEY, SECRET

SECRETS = {
    "auth": {"secret": SECRET},
    "http": {"api_key": API_KEY},
}
LOOK = b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def resolving(monkeypatch, *addresses: str) -> None:
    """Let every name have these addresses."""

    def getaddrinfo(_host, port, **_options):
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def names_of(host: str, port: int = 0) -> list[tuple]:
    listeners = await open_listeners(ServerSettings(host=host, port=port))
    names = [listener.socket.getsockname() for listener in listeners]
    for listener in listeners:
        await listener.aclose()
    return names


async def test_a_name_with_two_addresses_has_one_port_on_both(monkeypatch):
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1")
    (one, port), (other, same) = await names_of("both")
    assert (one, other) == ("127.0.0.1", "127.0.0.2")
    assert port == same != 0


async def test_a_free_port_is_free_on_every_address(monkeypatch):
    """The port that the first address happens to get is taken on the second, again and again."""
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    taken: list[socket.socket] = []
    bind = socket.socket.bind

    def take_on_the_other(self, address):
        bind(self, address)
        if address == ("127.0.0.1", 0) and len(taken) < 3:
            taken.append(socket.create_server(("127.0.0.2", self.getsockname()[1])))

    monkeypatch.setattr(socket.socket, "bind", take_on_the_other)
    try:
        (_, port), (_, same) = await names_of("both")
        assert port == same
        assert port not in [sock.getsockname()[1] for sock in taken]
        assert len(taken) == 3
    finally:
        for sock in taken:
            sock.close()


async def test_a_given_port_that_is_taken_on_one_address_is_refused_and_nothing_is_left_open(monkeypatch):
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"in use: 'both:{port}'"):
            await names_of("both", port)
        socket.create_server(("127.0.0.1", port)).close()


async def test_an_address_that_is_not_here_is_left_out_unless_it_is_the_only_one(monkeypatch):
    resolving(monkeypatch, "192.0.2.1", "127.0.0.1")
    ((host, _),) = await names_of("localhost")
    assert host == "127.0.0.1"
    resolving(monkeypatch, "192.0.2.1")
    with pytest.raises(OSError, match=r"'elsewhere:0'"):
        await names_of("elsewhere")


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", "caf\udce9", "a\0b"])
async def test_a_host_that_no_name_can_be_is_an_error_that_names_it(host):
    with pytest.raises(OSError, match="not known") as caught:
        await open_listeners(ServerSettings(host=host, port=0))
    assert caught.value.filename == authority(host, 0)


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_host_may_stand_in_brackets(host):
    ((address, port, *_),) = await names_of(host)
    assert address == "::1"
    assert url_of(ServerSettings(host=host, port=0), (address, port, 0, 0)) == f"http://[::1]:{port}"


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "[::]"])
async def test_every_address_is_reached_by_ipv4_and_ipv6(host):
    settings = msgspec.convert({**SECRETS, "server": {"host": host, "port": 0}}, Settings)
    with trio.fail_after(60):
        async with open_broker(settings) as broker, trio.open_nursery() as nursery:
            url = await nursery.start(broker.serve)
            port = int(url.rpartition(":")[2])
            for address in ("127.0.0.1", "::1"):
                async with await trio.open_tcp_stream(address, port) as stream:
                    await stream.send_all(LOOK)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_a_unix_socket_serves_like_a_port(tmp_path, is_abstract):
    path = f"\0greenroom-{tmp_path.name}" if is_abstract else str(tmp_path / "socket")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    bound.listen()
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(bound))]
    settings = msgspec.convert(SECRETS, Settings)
    upgrade = (
        b"GET /ws/lobby HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with trio.fail_after(60):
        async with open_broker(settings) as broker, trio.open_nursery() as nursery:
            url = await nursery.start(partial(broker.serve, listeners=listeners))
            assert url == "unix:" + path.replace("\0", "@")
            # One after the other: what one connection does wrong ends neither the server nor the next.
            for request, answer in [
                (LOOK, b" 200 "),
                (b"odd\r\n\r\n", b" 400 "),
                (upgrade, b" 101 "),
                (LOOK, b" 200 "),
            ]:
                sock = trio.socket.socket(socket.AF_UNIX)
                await sock.connect(path)
                async with trio.SocketStream(sock) as stream:
                    await stream.send_all(request)
                    assert answer in (await stream.receive_some()).partition(b"\r\n")[0] + b" "
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "written"),
    [("localhost", "localhost:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("10.0.0.1", "10.0.0.1:80")],
)
def test_host_and_port_are_written_as_in_a_url(host, written):
    assert authority(host, 80) == written


@pytest.mark.parametrize(
    ("server", "name", "url"),
    [
        (ServerSettings(host="localhost", port=0), ("::1", 81, 0, 0), "http://localhost:81"),
        (ServerSettings(host="localhost", port=81), ("127.0.0.1", 81), "http://localhost:81"),
        (ServerSettings(host="localhost", port=80), ("10.0.0.1", 81), "http://10.0.0.1:81"),
        (ServerSettings(host="", port=0), ("0.0.0.0", 81), "http://0.0.0.0:81"),
        (ServerSettings(), "", "unix:"),
        (ServerSettings(), "/run/a.sock", "unix:/run/a.sock"),
        (ServerSettings(), b"\0a", "unix:@a"),
    ],
)
def test_a_listener_is_called_by_the_host_that_was_configured(server, name, url):
    assert url_of(server, name) == url


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::1%eth0"),
        ("", "unix"),
        (b"\0a", "unix"),
        ("/run/client.sock", "unix"),
    ],
)
def test_a_peer_is_called_by_its_address(name, address):
    assert peer_address(name) == address
