"""The proxies of docs/deploy before a real broker: upgrades, event streams, and paths that are not for clients."""

import os
import shutil
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from broker import connect
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import RawPeer
from tests.support.secrets import API_KEY

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
PATH = f"{os.environ['PATH']}:/usr/sbin"


def replaced(name, *pairs):
    """Return a file of docs/deploy with its addresses replaced; each must be there."""
    text = (DEPLOY / name).read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder, port, upstream):
    site = replaced(
        "nginx.conf",
        ("127.0.0.1:8000", upstream),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        ("    ssl_certificate     /etc/ssl/chat.example.com.pem;\n", ""),
        ("    ssl_certificate_key /etc/ssl/chat.example.com.key;\n", ""),
    )
    own = "".join(
        f"{name}_temp_path {folder};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\n{own}{site}\n}}\n"
    )
    return ["nginx", "-p", f"{folder}", "-e", "stderr", "-c", f"{folder}/nginx.conf"]


def haproxy(folder, port, upstream):
    text = replaced(
        "haproxy.cfg",
        ("127.0.0.1:8000", upstream),
        ("maxconn 20000", "maxconn 200"),
        ("bind :443 ssl crt /etc/haproxy/chat.example.com.pem", f"bind 127.0.0.1:{port}"),
    )
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def caddy(folder, port, upstream):
    text = replaced(
        "Caddyfile", ("127.0.0.1:8000", upstream), ("chat.example.com {", f":{port} {{\n\tbind 127.0.0.1")
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
    return ["caddy", "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]


def haproxy_with_header(folder, port, upstream):
    """Let HAProxy name its clients by the PROXY protocol as well."""
    command = haproxy(folder, port, upstream)
    text = (folder / "haproxy.cfg").read_text()
    line = f"server node1 {upstream} check"
    assert line in text
    (folder / "haproxy.cfg").write_text(text.replace(line, f"{line} send-proxy-v2 check-send-proxy"))
    return command


PROXIES = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@asynccontextmanager
async def proxy_before(served, make, folder):
    port = free_port()
    command = make(folder, port, served.url.removeprefix("http://"))
    environ = {**os.environ, "PATH": PATH, "HOME": f"{folder}", "XDG_DATA_HOME": f"{folder}"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.run_process, command, env=environ, capture_stderr=True))
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
                except OSError:
                    await trio.sleep(0.02)
                else:
                    await stream.aclose()
                    break
        yield port
        nursery.cancel_scope.cancel()


async def ask(stream, path, *fields):
    head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: chat.example.com", *fields, "", ""])
    await stream.send_all(head.encode())


async def until(stream, wanted, received=b""):
    with trio.fail_after(PATIENCE_SECONDS):
        while wanted not in received:
            part = await stream.receive_some()
            assert part, received
            received += part
    return received


@pytest.mark.parametrize("name", PROXIES)
async def test_clients_come_through_the_proxy_and_nobody_else(serve, tmp_path, name):
    if shutil.which(name, path=PATH) is None:
        pytest.skip(f"there is no {name}")
    async with serve() as served, proxy_before(served, PROXIES[name], tmp_path) as port:
        # Requests before it, so that the proxy has connections to reuse for the upgrades.
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await ask(stream, "/greenroom.js", "Accept-Encoding: identity")
                assert b" 200 " in await until(stream, b"\r\n\r\n")

        url = f"http://127.0.0.1:{port}"
        async with (
            connect(url, token=served.token("ann")) as ann,
            connect(url, token=served.token("bob")) as bob,
            ann.join("lobby") as here,
            bob.join("lobby") as there,
        ):
            with trio.fail_after(PATIENCE_SECONDS):
                await here.chat("through the proxy")
                async for message in there:
                    if message.get("text") == "through the proxy":
                        break

        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            path = f"/api/rooms/news/events?token={served.token('cid')}"
            await ask(stream, path, "Accept: text/event-stream", "Accept-Encoding: gzip, deflate, br")
            received = await until(stream, b"joined")
            head = received.partition(b"\r\n\r\n")[0].lower()
            assert b"content-encoding" not in head
            # One small event, while the stream goes on: a buffer would hold it back.
            await served.broker.publish("news", {"type": "small"})
            await until(stream, b'"small"', received)

        for path in (
            "/metrics",
            "/",
            "/api/rooms",
            "/api/rooms/a/messages",
            "/ready",
            "/openapi.json",
            "/asyncapi.json",
            "/schema/greenroom.v1.json",
            "/wsx",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await ask(stream, path, f"Authorization: Bearer {API_KEY}")
                assert b" 404 " in (await until(stream, b"\r\n")).splitlines()[0], path


@pytest.mark.parametrize(
    ("program", "make"),
    [*PROXIES.items(), ("haproxy", haproxy_with_header)],
    ids=[*PROXIES, "haproxy with the PROXY protocol"],
)
async def test_clients_are_known_by_their_own_addresses(serve, tmp_path, program, make):
    if shutil.which(program, path=PATH) is None:
        pytest.skip(f"there is no {program}")
    server = {"trusted_proxies": ["127.0.0.1/32"], "proxy_protocol": make is haproxy_with_header}
    limits = {"connections_per_address": 2}
    async with (
        serve(server=server, limits=limits) as served,
        proxy_before(served, make, tmp_path) as port,
        AsyncExitStack() as stack,
    ):

        async def connect(address):
            opened = await trio.open_tcp_stream("127.0.0.1", port, local_address=address)
            return RawPeer(await stack.enter_async_context(opened))

        async def join(address):
            """Join by a WebSocket, which claims to come from elsewhere."""
            peer = await connect(address)
            target = f"/ws/lobby?token={served.token('ann')}"
            assert "101" in await peer.shake_hands(
                target, "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"
            )
            return peer

        async def follow(address):
            peer = await connect(address)
            await ask(
                peer.stream,
                f"/api/rooms/lobby/events?token={served.token('ann')}",
                "Accept: text/event-stream",
            )
            return peer

        assert (await (await join("127.0.0.2")).read_message())["type"] == "joined"
        await until((await follow("127.0.0.2")).stream, b"joined")
        assert await (await join("127.0.0.2")).read_code() == 4129
        # With the PROXY protocol the connection is refused before its request is looked at.
        refusal = b" 429 " if make is haproxy_with_header else b"too many connections of this address"
        await until((await follow("127.0.0.2")).stream, refusal)
        for number in (3, 4, 5):
            assert (await (await join(f"127.0.0.{number}")).read_message())["type"] == "joined"
