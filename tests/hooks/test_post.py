"""A hook that asks a real HTTP server, which answers, fails, hangs, is slow and closes."""

import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import pytest
import trio

from broker.config.settings import HookSettings, LogSettings, Settings
from broker.errors import ConfigurationError, Refused
from broker.hooks import verify
from broker.hooks.ask import Ask, Caller, ChatText, HookKind
from broker.hooks.hooks import Hooks
from broker.hooks.opening import open_hooks
from broker.log import open_log
from tests.support.application import ALLOW, open_application, response
from tests.support.patience import PATIENCE_SECONDS

NEW, OLD = (f"whsec_{b64encode(bytes(range(start, start + 32))).decode()}" for start in (0, 32))
CALLER = Caller(
    "ann", "c-1", "websocket", "10.0.0.1", {"sub": "ann", "role": "\ud800"}, {"x-a": "1", "x-b": "2"}
)
ASK = Ask(HookKind.PUBLISH, CALLER, "lobby", ChatText("hi"))


@asynccontextmanager
async def opened(url: str, log: StringIO | None = None, **changed: Any) -> AsyncIterator[Hooks]:
    fields = {"on": ("publish",), "url": url, "secret": NEW, "timeout_seconds": PATIENCE_SECONDS} | changed
    settings = Settings(hooks=(HookSettings(**fields),))
    own_log = open_log(LogSettings(format="json"), StringIO() if log is None else log)
    async with open_hooks(settings, (), log=own_log, wall_clock=time.time) as hooks:
        assert hooks is not None
        yield hooks


async def test_questions_are_signed_and_go_over_one_kept_connection() -> None:
    async with open_application() as app, opened(app.url, previous_secret=OLD, headers=("X-A",)) as hooks:
        app.answer = response({"allow": True}, Set_Cookie="session=of-somebody; Path=/")
        for _ in range(3):
            await hooks.decide(ASK)
        assert app.connections == 1
        for headers, body in app.requests:
            assert "cookie" not in headers
            for secret in (NEW, OLD):
                asked = verify(headers, body, secret)
            assert asked == {
                "type": "publish",
                "user_id": "ann",
                "connection": "c-1",
                "transport": "websocket",
                "claims": {"sub": "ann", "role": "\ud800"},
                "address": "10.0.0.1",
                "headers": {"x-a": "1"},
                "room": "lobby",
                "message": {"type": "chat", "text": "hi"},
            }
        assert len({headers["webhook-id"] for headers, _ in app.requests}) == 3


async def test_a_kept_connection_that_the_application_closes_costs_no_answer() -> None:
    async with open_application() as app, opened(app.url) as hooks:
        await hooks.decide(ASK)
        failures = 1

        async def close_first(stream: trio.SocketStream) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                await stream.aclose()
            else:
                await stream.send_all(ALLOW)

        app.answer = close_first
        await hooks.decide(ASK)
        ids = [headers["webhook-id"] for headers, _ in app.requests]
        assert (len(ids), ids[1] == ids[2], app.connections) == (3, True, 2)


BIG = b'{"allow":true,"reason":"' + b"x" * 1_000_000 + b'"}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"oops", 500), "answered with status 500"),
        (response({"allow": True}, 201), "answered with status 201"),
        (response({"allow": True}, 302, Location="http://127.0.0.1:1/"), "answered with status 302"),
        (response({"allow": True}, Content_Encoding="gzip"), "compressed"),
        (response(BIG), "larger than"),
        (response(b"<html>"), "wrong answer: Invalid JSON"),
        (b"rubbish\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", None),
    ],
)
async def test_anything_but_an_answer_is_a_failure(answer: bytes, reason: str | None) -> None:
    log = StringIO()

    async def send_and_close(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    async with open_application() as app, opened(app.url + "?key=hunter2", log) as hooks:
        app.answer = send_and_close
        with pytest.raises(Refused, match="unavailable: the application does not answer"):
            await hooks.decide(ASK)
        assert (reason or "hook failed") in log.getvalue()
        assert "hunter2" not in log.getvalue()
        app.answer = ALLOW
        await hooks.decide(ASK)


async def test_one_that_hangs_or_trickles_is_given_up_and_holds_up_no_other_question() -> None:
    async def trickle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.01)

    async def hang(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    for respond in (hang, trickle):
        async with open_application() as app, opened(app.url, timeout_seconds=0.2, concurrency=2) as hooks:
            app.answer = respond
            for _ in range(3):
                with trio.fail_after(PATIENCE_SECONDS), pytest.raises(Refused, match="unavailable"):
                    await hooks.decide(ASK)
            # More than the concurrency: each has given its connection back.
            app.answer = ALLOW
            async with opened(app.url) as patient:
                await patient.decide(ASK)
            for gate in hooks.gates:
                assert gate.outcomes == {"timeout": 3}


async def test_nothing_listens() -> None:
    log = StringIO()
    async with open_application() as app:
        url = app.url
    async with opened(url, log) as hooks:
        with pytest.raises(Refused, match="unavailable"):
            await hooks.decide(ASK)
    assert "ConnectError" in log.getvalue()


async def test_a_question_that_is_cancelled_leaves_the_connections_usable() -> None:
    async def hang(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with open_application() as app, opened(app.url, concurrency=1) as hooks:
        app.answer = hang
        for count in range(1, 6):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hooks.decide, ASK)
                with trio.fail_after(PATIENCE_SECONDS):
                    while len(app.requests) < count:
                        await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
        app.answer = ALLOW
        with trio.fail_after(PATIENCE_SECONDS):
            await hooks.decide(ASK)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1", "nonsense://x", "http://[::1"])
async def test_an_environment_that_cannot_be_used_refuses_the_start(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="hooks: no HTTP client can be made"):
        async with opened("https://app.example"):
            pass


async def test_without_hooks_there_is_nothing() -> None:
    log = open_log(LogSettings(), StringIO())
    async with open_hooks(Settings(), (), log=log, wall_clock=time.time) as hooks:
        assert hooks is None
