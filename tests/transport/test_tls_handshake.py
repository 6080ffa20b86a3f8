"""The port under TLS: who is let in, who is told why not, and that nobody holds up another. In memory, on virtual time."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.certificates import Authority, Pair
from tests.support.node import Node, OpenNode
from tests.support.peers import RawPeer
from tests.transport.wires import TlsClient


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> dict[str, str]:
    pair = authority.issue()
    return {"tls_cert_file": str(pair.certificate), "tls_key_file": str(pair.key)}


@attrs.frozen
class TlsNode:
    node: Node

    def dial(self, address: str = "10.0.0.1") -> trio.abc.HalfCloseableStream:
        node = self.node
        return node.dial(address, services=attrs.evolve(node.services, tls=node.assembly.services.tls))

    async def counts(self) -> dict[str, int]:
        await wait_all_tasks_blocked()
        return dict(self.node.services.refusals.counts)


@asynccontextmanager
async def open_tls_node(
    open_node: OpenNode, files: dict[str, str], **sections: dict[str, object]
) -> AsyncIterator[TlsNode]:
    server = {**files, **sections.pop("server", {})}
    async with open_node(server=server, **sections) as node:
        yield TlsNode(node)
        # The peers linger for a second.
        await trio.sleep(10)
        assert not len(node.admission)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while data := await stream.receive_some(65_536):
        received += data
    return received


async def test_a_websocket_opens(
    open_node: OpenNode, files: dict[str, str], authority: Authority, autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        client = TlsClient.over(tls.dial(), authority.client_context())
        await client.shake_hands()
        peer = RawPeer(client)
        assert "101" in await peer.shake_hands(tls.node.target("lobby", token=tls.node.token("ann")))
        assert (await peer.read_message())["type"] == "joined"
        await client.aclose()
        assert await tls.counts() == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("piece", [1, 100, 65_536])
async def test_a_request_that_comes_with_the_end_of_the_handshake_is_not_lost(
    open_node: OpenNode,
    files: dict[str, str],
    authority: Authority,
    version: ssl.TLSVersion,
    piece: int,
    autojump_clock: MockClock,
) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with open_tls_node(open_node, files) as tls:
        context = authority.client_context()
        context.maximum_version = version
        inner = tls.dial()
        client = TlsClient.over(inner, context)
        is_sent = False
        while not is_sent:
            try:
                client.tls.do_handshake()
            except ssl.SSLWantReadError:
                data = client.outgoing.read()
            else:
                data, is_sent = client.encrypt(request), True
            for start in range(0, len(data), piece):
                await inner.send_all(data[start : start + piece])
            if not is_sent:
                client.incoming.write(await inner.receive_some(65_536))
        assert await read_all(client) == b"http:" + request
        await client.aclose()


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /api", b"HTTP/1.1 400 "),
        (b"PROPFIND / HTTP/1.1", b"HTTP/1.1 400 "),
        (b"\x80\x2e\x01\x00\x02", b""),
        (b"SSH-2.0-OpenSSH_9.6\r\n", b""),
        (b"\x00" * 100, b""),
        (b"get / http/1.1", b""),
    ],
)
async def test_who_speaks_no_tls_is_told_so_in_plain_text(
    open_node: OpenNode, files: dict[str, str], first: bytes, answer: bytes, autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        peer = tls.dial()
        await peer.send_all(first)
        got = await read_all(peer)
        assert got.startswith(answer)
        assert (b"this port speaks TLS" in got) is bool(answer)
        assert await tls.counts() == {"tls_plain": 1}


async def test_a_peer_that_says_nothing_is_none(
    open_node: OpenNode, files: dict[str, str], autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        peer = tls.dial()
        await peer.send_eof()
        assert await read_all(peer) == b""
        assert await tls.counts() == {}


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x00\xff\x01"])
async def test_a_handshake_has_a_time_limit(
    open_node: OpenNode, files: dict[str, str], said: bytes, autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files, server={"tls_handshake_seconds": 7.0}) as tls:
        peer = tls.dial()
        began = trio.current_time()
        if said:
            await peer.send_all(said)
        assert await read_all(peer) == b""
        assert 7.0 <= trio.current_time() - began < 10.0
        assert await tls.counts() == {"tls_timeout": 1}


async def test_a_handshake_counts_as_a_connection_and_holds_up_no_other(
    open_node: OpenNode, files: dict[str, str], authority: Authority, autojump_clock: MockClock
) -> None:
    limits = {"connections_per_address": 2}
    async with open_tls_node(open_node, files, limits=limits) as tls:
        waiting = [tls.dial(), tls.dial()]
        await waiting[0].send_all(b"\x16")
        await wait_all_tasks_blocked()
        assert len(tls.node.admission) == 2
        other = TlsClient.over(tls.dial("10.0.0.2"), authority.client_context())
        await other.shake_hands()
        await other.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await other.receive_some()).startswith(b"http:GET")
        # One too many is told so, under TLS.
        refused = TlsClient.over(tls.dial(), authority.client_context())
        await refused.shake_hands()
        await refused.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_all(refused)).startswith(b"HTTP/1.1 429 ")
        for peer in waiting:
            await read_all(peer)
        assert await tls.counts() == {"address_full": 1, "tls_timeout": 2}


def too_old(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def without_common_cipher(context: ssl.SSLContext) -> None:
    # Of RSA keys, and the server's is of a curve.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")


def with_nothing_to_trust(context: ssl.SSLContext) -> None:
    context.load_default_certs()


@pytest.mark.parametrize(
    ("change", "trusts", "why"),
    [
        (too_old, True, "tls_version"),
        (without_common_cipher, True, "tls_ciphers"),
        (with_nothing_to_trust, False, "tls_not_trusted"),
    ],
)
async def test_a_handshake_that_fails_has_its_reason(
    open_node: OpenNode,
    files: dict[str, str],
    authority: Authority,
    change: object,
    trusts: bool,
    why: str,
    autojump_clock: MockClock,
) -> None:
    async with open_tls_node(open_node, files) as tls:
        context = authority.client_context() if trusts else ssl.create_default_context()
        assert callable(change)
        with pytest.warns(DeprecationWarning, match="TLSv1") if change is too_old else nullcontext():
            change(context)
        inner = tls.dial()
        client = TlsClient.over(inner, context)
        with pytest.raises(ssl.SSLError):
            await client.shake_hands()
        if alert := client.outgoing.read():
            await inner.send_all(alert)
        await inner.send_eof()
        await read_all(inner)
        assert await tls.counts() == {why: 1}
        (line,) = tls.node.refusals()
        assert line["why"] == why
        assert line["reason"]
        assert line["help"]


async def test_a_peer_that_goes_away_or_writes_rubbish_amid_its_handshake(
    open_node: OpenNode, files: dict[str, str], authority: Authority, autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        for tail in (b"", b"\x17\x03\x03\x00\x02xx" + b"x" * 1000):
            inner = tls.dial()
            client = TlsClient.over(inner, authority.client_context())
            with pytest.raises(ssl.SSLWantReadError):
                client.tls.do_handshake()
            hello = client.outgoing.read()
            await inner.send_all(hello[: 50 if not tail else len(hello)] + tail)
            await inner.send_eof()
            await read_all(inner)
        assert await tls.counts() == {"tls_broken": 2}
        # Nothing of them is left for others.
        client = TlsClient.over(tls.dial(), authority.client_context())
        await client.shake_hands()
        await client.aclose()


async def test_a_stop_ends_handshakes(
    open_node: OpenNode, files: dict[str, str], autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        node = tls.node
        port = node.make_port(attrs.evolve(node.services, tls=node.assembly.services.tls))
        ours = node.connect(port=port).client_end
        await wait_all_tasks_blocked()
        began = trio.current_time()
        port.begin_stop()
        assert await read_all(ours) == b""
        assert trio.current_time() - began < 2.0


@pytest.fixture(scope="module")
def own_client(authority: Authority) -> Pair:
    return authority.issue("client")


async def test_lines_about_handshakes_are_bounded(
    open_node: OpenNode, files: dict[str, str], autojump_clock: MockClock
) -> None:
    async with open_tls_node(open_node, files) as tls:
        for _ in range(50):
            peer = tls.dial()
            await peer.send_all(b"\x16\x03\x01\xff\xff" + b"x" * 20)
            await read_all(peer)
        assert await tls.counts() == {"tls_broken": 50}
        assert len(tls.node.refusals()) <= 10


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_client_certificate_must_be_signed_by_an_authority_that_is_trusted(
    open_node: OpenNode,
    files: dict[str, str],
    authority: Authority,
    own_client: Pair,
    tmp_path: Path,
    is_ours: bool,
    autojump_clock: MockClock,
) -> None:
    server = {"tls_client_ca_file": str(authority.file)}
    pair = own_client if is_ours else Authority(tmp_path, "stranger").issue("client")
    async with open_tls_node(open_node, files, server=server) as tls:
        client = TlsClient.over(tls.dial(), authority.client_context(pair))
        await client.shake_hands()
        await client.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        if is_ours:
            assert await read_all(client) == b"http:GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        else:
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                await read_all(client)
        assert await tls.counts() == ({} if is_ours else {"tls_client_certificate": 1})
        await client.aclose()
