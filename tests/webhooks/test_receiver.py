"""Requests over real sockets: what counts as taken, what does not, and what is sent."""

import msgspec
import pytest
import trio

from broker.errors import ConfigurationError
from broker.hooks import verify
from broker.webhooks import receiver as module
from broker.webhooks.batches import make_batch
from broker.webhooks.progress import FailureReason
from broker.webhooks.receiver import open_receiver
from tests.support.receiver import SECRET, Manner, open_application
from tests.webhooks.entries import entry, webhook

NOW = 1_700_000_000.5
BATCH = make_batch([entry(1), entry(2)])

MANNERS = {
    Manner.TAKE: None,
    Manner.SLOW: None,
    Manner.REFUSE: (FailureReason.STATUS, "status 503"),
    Manner.REDIRECT: (FailureReason.REDIRECT, "status 302"),
    Manner.HANG: (FailureReason.TIMEOUT, "no answer within 0.5 s"),
    Manner.RUBBISH: (FailureReason.ANSWER, "no whole answer"),
    Manner.CLOSE: (FailureReason.ANSWER, "no whole answer"),
    Manner.CUT_OFF: (FailureReason.ANSWER, "no whole answer"),
    Manner.ENDLESS: (FailureReason.ANSWER, "more than 65536 bytes"),
}


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.name)
async def test_only_a_whole_answer_with_a_status_2xx_counts(manner: Manner) -> None:
    seconds = 0.5 if manner is Manner.HANG else 60.0
    async with (
        open_application(lambda: manner) as application,
        open_receiver(webhook(url=application.url, timeout_seconds=seconds), lambda: NOW) as receiver,
    ):
        failure = await receiver.post(BATCH)
        assert len(application.requests) == 1
    if MANNERS[manner] is None:
        assert failure is None
    else:
        assert failure is not None
        reason, detail = MANNERS[manner]
        assert failure.reason is reason
        assert detail in failure.detail
        assert "rubbish" not in failure.detail


async def test_a_trickling_answer_ends_at_the_time_limit() -> None:
    async def trickle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, trickle, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with open_receiver(webhook(url=url, timeout_seconds=0.5), lambda: NOW) as receiver:
            failure = await receiver.post(BATCH)
        nursery.cancel_scope.cancel()
    assert failure is not None
    assert failure.reason is FailureReason.TIMEOUT


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nosuch.invalid/", "https://127.0.0.1:1/"])
async def test_nobody_to_connect_to(url: str) -> None:
    async with open_receiver(webhook(url=url), lambda: NOW) as receiver:
        failure = await receiver.post(BATCH)
    assert failure is not None
    assert failure.reason is FailureReason.CONNECT
    assert failure.detail


async def test_a_server_without_tls_is_nobody() -> None:
    async with (
        open_application() as application,
        open_receiver(webhook(url=application.url.replace("http:", "https:")), lambda: NOW) as receiver,
    ):
        failure = await receiver.post(BATCH)
    assert failure is not None
    assert failure.reason is FailureReason.CONNECT


async def test_requests_are_signed_and_use_one_connection_without_cookies() -> None:
    other = SECRET.replace("YWJj", "eHh4")
    settings = webhook(url="", previous_secret=other)
    manners = iter([Manner.TAKE, Manner.FAIL, Manner.TAKE])
    async with open_application(lambda: next(manners)) as application:
        settings = msgspec.structs.replace(settings, url=application.url)
        async with open_receiver(settings, lambda: NOW) as receiver:
            for _ in range(3):
                await receiver.post(BATCH)
        assert application.connections == 1
        for headers in application.requests:
            assert headers["content-type"] == "application/json"
            assert headers["webhook-timestamp"] == "1700000000"
            assert "cookie" not in headers
            for secret in (SECRET, other):
                assert verify(headers, BATCH.body, secret, now=NOW)[0]["id"] == "e-1"
        assert len({headers["webhook-id"] for headers in application.requests}) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks9://127.0.0.1:1"), ("SSL_CERT_FILE", "/nowhere/none.pem")]
)
async def test_an_environment_that_cannot_be_used_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="proxies and certificates"):
        async with open_receiver(webhook(), lambda: NOW):
            raise AssertionError


def test_the_secret_is_not_shown() -> None:
    shown = module.Receiver(None, "", [b"hunter2"], 1.0, lambda: NOW)  # type: ignore[arg-type]
    assert "hunter2" not in repr(shown)
