"""HTTP over TLS with clients of others: posts, event streams, scheme, certificates of clients."""

import os
import shutil
import subprocess
import sys
from functools import partial

import httpx2
import pytest
import trio
from quart import request
from quart_trio import QuartTrio

from broker.config.settings import ServerSettings, Settings
from broker.testing import running_broker
from tests.certificates import Authority
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import handshake
from tests.support.secrets import API_KEY
from tests.support.served import make_serve


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def serve(authority):
    return make_serve(authority)


def address_of(served):
    host, port = served.url.removeprefix("https://").split(":")
    return host, int(port)


async def secured(served):
    stream = await trio.open_tcp_stream(*address_of(served))
    return trio.SSLStream(stream, served.tls, server_hostname="127.0.0.1", https_compatible=False)


async def test_posts_and_events_go_over_one_port(serve):
    async with serve() as served:
        assert served.url.startswith("https://")
        # Of the fast path, of many records, and of hypercorn.
        for text in ("short", "x" * 60_000):
            answer = await served.http.post("/api/rooms/lobby/messages", json={"type": "note", "text": text})
            assert answer.status_code == 200
        stream = await secured(served)
        target = f"/api/rooms/lobby/events?last=2&token={served.token('ann')}"
        await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while b'"user_joined"' not in received:
            received += await stream.receive_some()
        await served.http.post("/api/rooms/lobby/messages", json={"type": "note", "text": "live"})
        while b'"live"' not in received:
            received += await stream.receive_some()
        await trio.aclose_forcefully(stream)
        page = await served.http.get("/api/rooms/lobby/messages")
        assert [len(event["text"]) for event in page.json()["messages"]] == [5, 60_000, 4]


async def test_a_websocket_begins_on_a_kept_connection(serve):
    async with serve() as served:
        stream = await secured(served)
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        await stream.send_all(handshake(f"/ws/lobby?token={served.token('ann')}"))
        received = b""
        while b'"user_joined"' not in received:
            received += await stream.receive_some()
        assert b"HTTP/1.1 101 " in received
        await trio.aclose_forcefully(stream)


def test_a_broker_for_tests_speaks_tls_if_its_settings_say_so(authority, monkeypatch):
    pair = authority.issue()
    server = ServerSettings(tls_cert_file=str(pair.certificate), tls_key_file=str(pair.key))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with running_broker(Settings(server=server)) as running, running.publisher() as publisher:
        assert running.url.startswith("https://")
        assert publisher.publish("lobby", {"type": "note"}).offset == 1


async def test_an_application_beside_sees_https(serve):
    app = QuartTrio(__name__)

    @app.get("/scheme")
    async def scheme() -> str:
        return request.scheme

    async with serve(app=app) as served:
        assert (await served.http.get("/scheme")).text == "https"


async def test_a_drain_ends_idle_and_busy_connections_in_good_order(serve):
    async with serve(server={"drain_seconds": 0.0}) as served:
        client = await secured(served)
        await client.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
        served.broker.begin_drain()
        # An end with close_notify: without https_compatible another one is an error.
        while await client.receive_some():
            pass
        await trio.aclose_forcefully(client)


async def test_the_api_is_for_clients_with_a_certificate_where_that_is_wanted(authority, tmp_path):
    serve = make_serve(authority)
    server = {"tls_client_ca_file": str(authority.file)}
    post = {"json": {"type": "note"}}
    async with serve(server=server) as served:
        refused = [
            await served.http.post("/api/rooms/lobby/messages", **post),
            await served.http.get("/api/rooms"),
            await served.http.get("/api/rooms", headers={"Authorization": "Bearer wrong"}),
            await served.http.get("/api/no-such-route"),
            await served.http.get("/api/rooms/lobby/events"),
        ]
        for answer in refused:
            assert answer.status_code == 403
            assert answer.headers["content-type"] == "application/problem+json"
            assert "certificate" in answer.json()["detail"]
        assert served.broker._services.refusals.counts["client_certificate"] == len(refused)
        # Pages need their token and nothing else.
        async with served.connect("/ws/lobby") as ann:
            await ann.receive("joined")
        anyone = {"Authorization": f"Bearer {served.token('ann')}"}
        assert (await served.http.head("/api/rooms/lobby/events", headers=anyone)).status_code == 200
        for path in ("/health", "/metrics", "/"):
            assert (await served.http.get(path)).status_code == 200
        context = authority.client_context(authority.issue("client"))
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with httpx2.AsyncClient(
            base_url=served.url, headers=headers, verify=context, timeout=PATIENCE_SECONDS
        ) as http:
            assert (await http.post("/api/rooms/lobby/messages", **post)).status_code == 200
            assert (await http.get("/api/rooms")).status_code == 200
            # The certificate is none instead of the key.
            wrong = await http.get("/api/rooms", headers={"Authorization": "Bearer wrong"})
            assert wrong.status_code == 401


async def run(*arguments, environ=None):
    """Run a program, whose input is empty."""
    with trio.fail_after(PATIENCE_SECONDS):
        ran = await trio.run_process(
            arguments,
            check=False,
            stdin=b"",
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
    return ran.stdout.decode()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
async def test_versions_and_protocols_as_openssl_sees_them(serve):
    async with serve() as served:
        host, port = address_of(served)
        ask = partial(run, "openssl", "s_client", "-connect", f"{host}:{port}", "-alpn", "h2,http/1.1")
        for version in ("-tls1_2", "-tls1_3"):
            told = await ask(version)
            assert "ALPN protocol: http/1.1" in told
        assert "ALPN protocol" not in await ask("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert served.broker._services.refusals.counts["tls_version"] == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_gets_an_answer_and_the_wrong_scheme_is_told(serve, authority):
    async with serve() as served:
        assert '"ok"' in await run("curl", "-sS", "--cacert", str(authority.file), f"{served.url}/health")
        plain = served.url.replace("https", "http")
        told = await run("curl", "-sS", "-i", f"{plain}/health")
        assert told.startswith("HTTP/1.1 400 ")
        assert "this port speaks TLS" in told
        # One that does not trust the certificate.
        assert "certificate" in await run("curl", "-sS", f"{served.url}/health")


async def test_the_command_line_trusts_the_authorities_of_a_file(serve, authority):
    async with serve() as served:
        program = (sys.executable, "-m", "broker", "send", "lobby", "hello", "--url", served.url)
        trusting = {"SSL_CERT_FILE": str(authority.file), "GREENROOM_TOKEN": served.token("ann")}
        assert await run(*program, environ=trusting) == "lobby 1\n"


async def test_the_certificate_s_end_is_a_metric(serve):
    async with serve() as served:
        metrics = (await served.http.get("/metrics")).text
        (line,) = [
            line
            for line in metrics.splitlines()
            if line.startswith("greenroom_tls_certificate_expiry_timestamp")
        ]
        assert float(line.rpartition(" ")[2]) > 1_700_000_000
