"""Anything that prevents sending raises an error of ours at once, which contains no key."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.client import AddressError, AsyncPublisher, ClientError, NotSentError, Published, Publisher
from broker.client.address import parse_address
from broker.client.retries import Attempts, read_answer, read_outcomes
from broker.client.routes import PublishOptions, publish
from tests.certificates import make_certificate
from tests.client.test_retries import NoJitter
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY

NOWHERE = "http://127.0.0.1:9"

odd_text = st.text(max_size=12) | st.text(alphabet="a \t\r\n\0\x7fü\udce9\"'", max_size=6)


@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        API_KEY + "\n",
        "\n" + API_KEY,
        API_KEY + "\r\nX: y",
        API_KEY + "\0",
        "schlüssel-" + API_KEY,
        API_KEY + "\udce9",
        None,
        5,
        b"x",
    ],
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(
    kind: Callable[..., object], key: Any
) -> None:
    with pytest.raises(NotSentError, match=r"^api_key: ") as caught:
        kind(NOWHERE, key)
    assert API_KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host",
        "http://",
        "http:///path",
        "https://[::1",
        "http://host:x",
        "http://host:99999",
        "http://host:0",
        "http://a b",
        "http://" + "a" * 64,
        "http://a\0b",
        "http://\udce9",
        None,
        5,
    ],
)
@pytest.mark.parametrize(
    "make", [partial(Publisher, api_key=API_KEY), partial(AsyncPublisher, api_key=API_KEY), parse_address]
)
def test_what_is_no_address_is_refused(make: Callable[..., object], url: Any) -> None:
    if make is parse_address and url == "http://host:0":
        pytest.skip("the default port")
    with pytest.raises(AddressError) as caught:
        make(url)
    assert isinstance(caught.value, ValueError), "as it was before"


def test_a_key_in_place_of_the_address_is_not_told() -> None:
    with pytest.raises(AddressError) as caught:
        Publisher(API_KEY, "http://127.0.0.1:9")
    assert API_KEY not in str(caught.value)


@given(url=odd_text | odd_text.map("http://".__add__) | odd_text.map("http://host/".__add__))
def test_an_address_is_read_or_refused(url: str) -> None:
    try:
        address = parse_address(url)
    except AddressError:
        return
    for sent in (address.host, address.authority, address.target):
        assert all("\x21" <= character <= "\x7e" for character in sent)


ENVIRONMENTS: list[dict[str, str]] = [
    {"ALL_PROXY": "socks5://127.0.0.1:1"},
    {"ALL_PROXY": "socks4://127.0.0.1:1"},
    {"http_proxy": "socks5h://user:the-password@127.0.0.1:1"},
    {"HTTP_PROXY": "gopher://user:the-password@127.0.0.1:1"},
    {"HTTP_PROXY": "http://user:the-password@127.0.0.1:port"},
    {"ALL_PROXY": "://"},
    {"HTTP_PROXY": "http://user:the-password@127.0.0.1:65536"},
    {"HTTPS_PROXY": "127.0.0.1:99999"},
    {"HTTP_PROXY": "http://127.0.0.1:0"},
    {"ALL_PROXY": "http://:3128"},
    {"HTTP_PROXY": "http://a..b:3128"},
    {"HTTP_PROXY": "http://999.1.1.1:3128"},
    {"SSL_CERT_FILE": "/nowhere/at.pem"},
    {"SSL_CERT_FILE": "/etc/hostname"},
    {"SSL_CERT_FILE": "/"},
    {"SSL_CERT_DIR": "/nowhere/at"},
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    def set_environment(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return set_environment


@pytest.mark.parametrize("variables", ENVIRONMENTS, ids=str)
@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
def test_what_the_environment_says_is_used_or_refused(
    environment: Callable[[dict[str, str]], None], kind: Callable[..., object], variables: dict[str, str]
) -> None:
    environment(variables)
    for url in (NOWHERE, "https://127.0.0.1:9"):
        try:
            kind(url, API_KEY)
        except NotSentError as error:
            told = str(error)
        else:
            continue
        assert next(iter(variables)).upper() in told.upper()
        assert "the-password" not in told
        assert API_KEY not in told


IMPOSSIBLE_PROXIES = [
    "http://127.0.0.1:65536",
    "127.0.0.1:99999",
    "http://127.0.0.1:0",
    "http://:3128",
    "http://a..b:3128",
    f"http://{'a' * 64}:3128",
]


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", IMPOSSIBLE_PROXIES)
@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
def test_a_proxy_that_nothing_can_connect_to_is_refused_at_once(
    environment: Callable[[dict[str, str]], None], kind: Callable[..., object], proxy: str, name: str
) -> None:
    environment({name: proxy})
    with pytest.raises(NotSentError, match=name.upper()):
        kind(NOWHERE, API_KEY)


@pytest.mark.parametrize("variables", [ENVIRONMENTS[0], ENVIRONMENTS[6]], ids=str)
@pytest.mark.parametrize(
    "command",
    [
        ["top", "--once"],
        ["send", "lobby", "hello", "--token", "a.b.c"],
        ["top", "--once", "--url", "nothing"],
    ],
)
def test_a_command_tells_it_in_one_line(variables: dict[str, str], command: list[str]) -> None:
    environ = {**os.environ, **variables, "GREENROOM_API_KEY": API_KEY}
    ran = subprocess.run(
        [sys.executable, "-m", "broker", *command],
        env={"GREENROOM_URL": NOWHERE, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode in {1, 2}
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert ran.stderr.startswith("greenroom: ")
    if "--url" in command:
        assert (ran.returncode, "--url" in ran.stderr) == (2, True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "a key that is not ASCII": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key="für"),
    "a key with a line's end": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key="x\n"),
    "a key that is empty": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key=""),
    "a key with a blank behind it": lambda publisher: publisher.publish(
        "a", {"type": "x"}, idempotency_key="x "
    ),
    "a key with a null": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key="x\0y"),
    "a key that is a number": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key=5),
    "a key that is bytes": lambda publisher: publisher.publish("a", {"type": "x"}, idempotency_key=b"x"),
    "an empty key to many": lambda publisher: publisher.broadcast(["a"], {"type": "x"}, idempotency_key=""),
    "an object": lambda publisher: publisher.publish("a", {"type": object()}),
    "a lone surrogate": lambda publisher: publisher.publish("a", {"type": "\udce9"}),
    "a message that holds itself": lambda publisher: publisher.publish("a", endless()),
    "a room that is no Unicode": lambda publisher: publisher.publish("caf\udce9", {"type": "x"}),
    "a room that is no text": lambda publisher: publisher.publish(None, {"type": "x"}),
    "a room that is a number": lambda publisher: publisher.publish(5, {"type": "x"}),
    "a room that is bytes": lambda publisher: publisher.publish(b"lobby", {"type": "x"}),
    "a room without a name": lambda publisher: publisher.publish("", {"type": "x"}),
    "a room with a slash": lambda publisher: publisher.publish("a/b", {"type": "x"}),
    "a room of dots": lambda publisher: publisher.publish("..", {"type": "x"}),
    "a room with a long name": lambda publisher: publisher.publish("a" * 129, {"type": "x"}),
    "one room of many that is a number": lambda publisher: publisher.broadcast(["a", 5], {"type": "x"}),
    "one room in place of many": lambda publisher: publisher.broadcast("lobby", {"type": "x"}),
    "bytes": lambda publisher: publisher.publish("a", {"type": "x", "b": b"x"}),
    "bytes to many": lambda publisher: publisher.broadcast(["a"], {"type": "x", "b": b"x"}),
    "rooms that are none": lambda publisher: publisher.broadcast(None, {"type": "x"}),
    "a room of many that is no Unicode": lambda publisher: publisher.broadcast(["\udce9"], {"type": "x"}),
}


def endless() -> dict[str, Any]:
    message: dict[str, Any] = {"type": "x"}
    message["self"] = message
    return message


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_sent_is_refused_at_once(name: str) -> None:
    def no_sleep(_seconds: float) -> None:
        pytest.fail("it waits")

    with Publisher(NOWHERE, API_KEY, timeout_seconds=1e9) as publisher, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", no_sleep)
        with pytest.raises(NotSentError) as caught:
            CALLS[name](publisher)
    assert API_KEY not in str(caught.value)

    async def call() -> None:
        async with AsyncPublisher(NOWHERE, API_KEY, timeout_seconds=1e9) as publisher:
            with pytest.raises(NotSentError):
                await CALLS[name](publisher)

    asyncio.run(call())


@given(key=odd_text)
def test_a_key_is_sent_as_it_is_or_refused(key: str) -> None:
    try:
        call = publish("a", {"type": "x"}, key, PublishOptions())
    except NotSentError:
        return
    assert call.headers["Idempotency-Key"] == key
    assert key == key.strip() != ""
    key.encode("ascii")


def test_a_publisher_that_was_closed_says_so() -> None:
    publisher = Publisher(NOWHERE, API_KEY)
    publisher.close()
    publisher.close()
    with pytest.raises(NotSentError, match="closed"):
        publisher.publish("a", {"type": "x"})


async def test_a_certificate_that_is_not_to_be_trusted_is_told_at_once(tmp_path, environment) -> None:
    import trio  # noqa: PLC0415

    _, context = make_certificate(tmp_path)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    port = listeners[0].transport_listener.socket.getsockname()[1]

    async def shake(stream: Any) -> None:
        with trio.move_on_after(5):
            with suppress(trio.BrokenResourceError):
                await stream.do_handshake()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, shake, listeners))
            async with AsyncPublisher(f"https://127.0.0.1:{port}", API_KEY, timeout_seconds=1e9) as publisher:
                with pytest.raises(NotSentError, match="certificate"):
                    await publisher.publish("a", {"type": "x"})
            nursery.cancel_scope.cancel()


REFUSED_BY_PROXY = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
LASTING: dict[str, tuple[str, bytes, type[ClientError], str]] = {
    "https to a plain port": (
        "https",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        NotSentError,
        "no TLS is possible",
    ),
    "http to a port with TLS": ("http", b"\x15\x03\x03\x00\x02\x02\x46", ClientError, "no HTTP server"),
    "http to another protocol": ("http", b"-ERR unknown command\r\n\r\n", ClientError, "no HTTP server"),
    "a proxy that refuses": ("proxy", REFUSED_BY_PROXY, NotSentError, "proxy refuses: 407"),
}


@pytest.mark.parametrize("case", LASTING)
@pytest.mark.parametrize("kind", [Publisher, AsyncPublisher])
async def test_what_cannot_pass_is_raised_at_once(
    environment: Callable[[dict[str, str]], None], kind: Any, case: str
) -> None:
    import trio  # noqa: PLC0415

    scheme, reply, expected, match = LASTING[case]
    connections = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await stream.receive_some(65_536)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(reply)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            environment({"HTTPS_PROXY": f"http://127.0.0.1:{port}"} if scheme == "proxy" else {})
            url = NOWHERE.replace("http", "https") if scheme == "proxy" else f"{scheme}://127.0.0.1:{port}"
            publish = partial(
                kind(url, API_KEY, timeout_seconds=PATIENCE_SECONDS).publish, "a", {"type": "x"}
            )
            if kind is Publisher:
                publish = partial(trio.to_thread.run_sync, publish)
            with pytest.raises(expected, match=match) as caught:
                await publish()
            assert type(caught.value) is expected
            assert connections == 1
            nursery.cancel_scope.cancel()


@given(
    value=st.text(max_size=30)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,12} \d\d:\d\d:\d\d [+-]?\d{1,20}")
)
def test_any_retry_after_is_read_or_passed_over(value: str) -> None:
    with suppress(ClientError):
        Attempts("key", 1e12, NoJitter()).answered(503, {"retry-after": value}, b"", 0.0)


@given(
    body=st.binary(max_size=30)
    | st.sampled_from(
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"results":[{"error":[]}]}',
            b'{"results":[{"error":"x"}]}',
            b'{"results":[{"error":{"code":1}}]}',
            b'{"results":[{"error":{"code":"x","message":"m","retry_after_ms":"1"}}]}',
            b'{"detail":"\xff"}',
        ]
    )
)
@pytest.mark.parametrize(
    "read",
    [
        partial(read_answer, kind=Published),
        read_outcomes,
        lambda body: Attempts("key", 0.0, NoJitter()).answered(400, {}, body, 0.0),
    ],
)
def test_any_body_is_read_or_an_error_of_ours(read: Callable[[bytes], object], body: bytes) -> None:
    with suppress(ClientError):
        read(body)
