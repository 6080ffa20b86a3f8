"""Applications served over real sockets: connections that end when they should, whatever the other side does."""

import contextlib
import errno
import struct

import pytest
import trio
import trio.testing
from quart import Response, request
from quart_trio import QuartTrio

from broker.config.settings import HttpSettings
from broker.refusals import LINES_PER_ADDRESS
from tests.support.patience import PATIENCE_SECONDS

QUICK = HttpSettings(keep_alive_seconds=0.2, request_seconds=0.5)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER without patience: closing resets the connection
MEGABYTE = b"x" * 1_000_000


def make_quart() -> QuartTrio:
    app = QuartTrio("app")

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data())

    @app.get("/large")
    async def large() -> Response:
        return Response(MEGABYTE * 40)

    return app


@pytest.fixture
async def served(serve, log):
    async with serve(make_quart(), HttpSettings(), log) as served:
        yield served


async def test_a_connection_serves_one_request_after_another(served):
    async with served.connect() as client:
        for _ in range(3):
            await client.request("GET", "/")
            assert (await client.response())[::2] == (200, b"hello")


async def test_a_connection_is_kept_however_many_requests_it_brings(served):
    """Hypercorn's own limit is 1,000, and its end comes without a word."""
    many = 1100
    async with served.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, "GET /none HTTP/1.1\r\nHost: t\r\n\r\n" * many)
        with trio.fail_after(PATIENCE_SECONDS):
            for _ in range(many):
                assert (await client.response())[0] == 404


async def test_pipelined_requests_are_answered_in_order(served):
    async with served.connect() as client:
        await client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 2 + "GET /none HTTP/1.1\r\nHost: t\r\n\r\n")
        assert [(await client.response())[0] for _ in range(3)] == [200, 200, 404]


async def test_connection_close_closes(served):
    async with served.connect() as client:
        await client.request("GET", "/", "Connection: close")
        assert b"hello" in await client.rest()
    await served.wait_no_connection()


async def test_http_1_0_closes(served):
    async with served.connect() as client:
        await client.send("GET / HTTP/1.0\r\n\r\n")
        assert b"hello" in await client.rest()


async def test_an_idle_connection_is_let_go(serve, log):
    async with serve(make_quart(), QUICK, log) as served, served.connect() as client:
        await client.request("GET", "/")
        await client.response()
        assert await client.rest() == b""
        await served.wait_no_connection()


async def test_a_connection_that_the_client_closes_is_let_go_at_once(served):
    async with served.connect() as client:
        await client.request("GET", "/")
        await client.response()
    await served.wait_no_connection()
    async with served.connect():
        pass
    await served.wait_no_connection()


async def test_a_connection_that_is_reset_while_it_is_answered_is_let_go_at_once(serve, log):
    app = make_quart()
    began, go_on = trio.Event(), trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        began.set()
        await go_on.wait()
        return "done"

    async with serve(app, HttpSettings(), log) as served:
        async with served.connect() as client:
            await client.request("GET", "/slow")
            await began.wait()
            client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        go_on.set()
        await served.wait_no_connection()


async def test_a_connection_that_never_asks_is_let_go(serve, log):
    async with serve(make_quart(), QUICK, log) as served, served.connect() as client:
        assert await client.rest() == b""
        await served.wait_no_connection()


async def test_a_client_that_never_reads_is_aborted(serve, log):
    async with serve(make_quart(), QUICK, log) as served, served.connect() as client:
        await client.request("GET", "/large")
        await client.until(b"\r\n\r\n")
        assert len(served.http) == 1
        await served.wait_no_connection()


async def test_a_client_that_never_reads_does_not_delay_the_end(serve, log):
    async with serve(make_quart(), HttpSettings(), log) as served, served.connect() as client:
        await client.request("GET", "/large")
        await client.until(b"\r\n\r\n")
        served.http.abort()
        await served.wait_no_connection()


async def test_a_cancelled_connection_is_closed(serve, log):
    async with serve(make_quart(), HttpSettings(), log) as served, served.connect() as client:
        await client.request("GET", "/")
        await client.response()
        served.cancel_connections()
        assert await client.rest() == b""
        await served.wait_no_connection()


async def test_a_stop_closes_idle_connections_and_lets_others_finish(serve, log):
    app = make_quart()
    go_on = trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        await go_on.wait()
        return "done"

    async with serve(app, HttpSettings(), log) as served:
        async with served.connect() as idle, served.connect() as busy:
            await idle.request("GET", "/")
            await idle.response()
            await busy.request("GET", "/slow")
            await trio.testing.wait_all_tasks_blocked(0.05)
            served.http.begin_stop()
            assert await idle.rest() == b""
            go_on.set()
            status, headers, body = await busy.response()
            assert (status, headers["connection"], body) == (200, "close", b"done")
            assert await busy.rest() == b""
        await served.wait_no_connection()


async def test_a_failing_route_is_a_500_and_one_line(serve, log):
    app = make_quart()

    async def broken(scope, receive, send):
        if scope["type"] == "http":
            raise RuntimeError("broken")

    async with serve(app, HttpSettings(), log, broken) as served, served.connect() as client:
        app.url_map = type(app.url_map)()  # everything is the other's
        for _ in range(2):
            await client.request("GET", "/x?token=secret")
            status, headers, body = await client.response()
            assert status == 500
            assert headers["content-type"] == "application/problem+json"
            assert b"broken" not in body
    assert [(level, event) for level, event, _ in log.lines] == [("error", "request failed")] * 2
    assert "secret" not in str(log.lines)


async def test_half_an_answer_is_cut_off_and_not_ended(serve, log):
    app = make_quart()

    @app.get("/half")
    async def half() -> Response:
        async def generate():
            yield b"half"
            raise RuntimeError("broken")

        return Response(generate())

    async with serve(app, HttpSettings(), log) as served, served.connect() as client:
        await client.request("GET", "/half")
        await client.head()
        # A reset says the same.
        with contextlib.suppress(trio.BrokenResourceError):
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
    assert [event for _, event, _ in log.lines] == ["request failed"]


async def test_the_end_of_the_client_ends_its_request(serve, log):
    app = make_quart()
    began, ended = trio.Event(), trio.Event()

    @app.get("/wait")
    async def wait() -> str:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serve(app, HttpSettings(), log) as served:
        async with served.connect() as client:
            await client.request("GET", "/wait")
            await began.wait()
        with trio.fail_after(PATIENCE_SECONDS):
            await ended.wait()
        await served.wait_no_connection()
    assert log.lines == []


async def test_an_offer_of_http_2_is_passed_over(served):
    async with served.connect() as client:
        await client.request(
            "GET",
            "/",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        )
        assert (await client.response())[::2] == (200, b"hello")


async def test_http_2_without_asking_is_refused(served):
    async with served.connect() as client:
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        answer = await client.rest()
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_junk_is_refused(served, log, junk):
    async with served.connect() as client:
        await client.send(junk + b"\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
    assert log.lines == []


async def test_a_head_over_the_limit_is_refused(serve, log):
    async with serve(make_quart(), HttpSettings(head_bytes=1000), log) as served, served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 2000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431")


async def test_an_answer_arrives_although_the_body_was_not_read(serve, log):
    async def hasty(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})
        assert (await receive())["type"] == "http.disconnect"

    async with serve(QuartTrio("none"), HttpSettings(), log, hasty) as served, served.connect() as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 3000000\r\n\r\n")
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                for _ in range(3):
                    await client.send(MEGABYTE)

            nursery.start_soon(upload)
            assert await client.until(b"no")
        await served.wait_no_connection()
    assert log.lines == [] or all(event != "request failed" for _, event, _ in log.lines)


async def test_an_application_that_does_not_answer_is_a_500(serve, log):
    async def silent(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError("no lifespan here")

    async with serve(QuartTrio("none"), HttpSettings(), log, silent) as served, served.connect() as client:
        await client.request("GET", "/x")
        assert (await client.response())[0] == 500


async def test_an_application_that_fails_to_start_is_told(serve, log):
    app = make_quart()

    @app.before_serving
    async def fail() -> None:
        raise ValueError("no database")

    with pytest.RaisesGroup(
        pytest.RaisesExc(match="no database"), allow_unwrapped=True, flatten_subgroups=True
    ):
        async with serve(app, HttpSettings(), log):
            pytest.fail("served")


async def test_an_application_is_started_and_stopped_and_its_failing_stop_logged(serve, log):
    app = make_quart()
    seen = []

    @app.before_serving
    async def start() -> None:
        seen.append("start")

    @app.after_serving
    async def stop() -> None:
        seen.append("stop")
        raise ValueError("no farewell")

    app.log_exception = lambda _info: None
    async with serve(app, HttpSettings(), log):
        assert seen == ["start"]
    assert seen == ["start", "stop"]
    assert [event for _, event, _ in log.lines] == ["application failed to stop"]


async def test_a_failure_on_the_way_out_is_logged_and_the_cancellation_goes_on(serve, log):
    began = trio.Event()

    async def clumsy(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        async with trio.open_nursery() as nursery:

            async def stumble() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("stumbled")

            nursery.start_soon(stumble)
            nursery.start_soon(trio.sleep_forever)
            began.set()
            await trio.sleep_forever()

    async with serve(QuartTrio("none"), HttpSettings(), log, clumsy) as served, served.connect() as client:
        await client.request("GET", "/x")
        await began.wait()
        served.cancel_connections()
        assert await client.rest() == b""
        await served.wait_no_connection()
    assert [event for _, event, _ in log.lines] == ["request failed"]


async def test_a_client_that_is_gone_at_once_does_no_harm(served, log):
    for _ in range(20):
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        stream.socket.close()
    await served.wait_no_connection()
    assert log.lines == []


@pytest.mark.parametrize("ending", ["closed", "reset"])
async def test_clients_that_go_with_requests_waiting_are_nothing_to_log(serve, log, ending):
    async def hasty(scope, receive, send):
        """Answer without a look at the body."""
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async with serve(QuartTrio("none"), HttpSettings(), log, hasty) as served:
        for _ in range(40):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port)
            await stream.send_all(b"GET /x HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n" * 3)
            if ending == "reset":
                stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
            await stream.aclose()
        await served.wait_no_connection()
    assert [event for _, event, _ in log.lines if event != "refused"] == []


class FakeTransport:
    """Broken inside; with `is_gone`, its client was gone before its address was asked for."""

    def __init__(self, *, is_gone):
        self.is_gone = is_gone
        self.is_aborted = False

    def endpoints(self):
        if self.is_gone:
            raise OSError(errno.ENOTCONN, "not connected")
        return None, None

    def has_peer_ended(self):
        return False

    async def receive_some(self, max_bytes=None):
        raise ZeroDivisionError

    async def send_all(self, data):
        raise ZeroDivisionError

    async def send_eof(self):
        await trio.lowlevel.checkpoint()

    async def aclose(self):
        await trio.lowlevel.checkpoint()

    def abort(self):
        self.is_aborted = True


async def test_a_failure_of_one_connection_is_not_raised(served, log):
    for is_gone, events in ((True, []), (False, ["connection failed"])):
        transport = FakeTransport(is_gone=is_gone)
        await served.http.serve(transport)
        assert transport.is_aborted
        assert [event for _, event, _ in log.lines] == events
    for _ in range(100):
        await served.http.serve(FakeTransport(is_gone=False))
    assert {event for _, event, _ in log.lines} == {"connection failed"}
    assert len(log.lines) == LINES_PER_ADDRESS


async def flood(client) -> None:
    """Send a body that nobody reads, until the server reads no more, and beyond."""
    await client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
    with trio.move_on_after(0.3):
        while True:
            await client.send(MEGABYTE)


@pytest.mark.parametrize("chunks", [0, 1, 2])
async def test_waiting_for_the_client_s_end_returns_at_the_end_of_the_answer(serve, log, chunks):
    heard = []

    async def polling(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        async with trio.open_nursery() as nursery:

            async def wait_disconnect() -> None:
                while (event := await receive())["type"] != "http.disconnect":
                    pass
                heard.append(event["type"])

            nursery.start_soon(wait_disconnect)
            await trio.testing.wait_all_tasks_blocked()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": MEGABYTE * 20 + b"done"})

    async with serve(QuartTrio("none"), HttpSettings(), log, polling) as served, served.connect() as client:
        await client.request("POST", "/x", "Content-Length: 1000000")
        await client.until(b"\r\n\r\n")
        for _ in range(chunks):
            await client.send(b"some of the body")
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert b"done" in await client.rest()
        await client.stream.aclose()
        await served.wait_no_connection()
    assert heard == ["http.disconnect"]


async def test_a_failure_behind_an_unread_body_ends_the_connection(serve, log):
    go_on = trio.Event()

    async def broken(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        raise ZeroDivisionError

    async with serve(QuartTrio("none"), HttpSettings(), log, broken) as served, served.connect() as client:
        await flood(client)
        go_on.set()
        await served.wait_no_connection()


async def test_a_reset_behind_an_unread_body_ends_the_connection(serve, log):
    go_on = trio.Event()

    async def deaf(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        while True:
            await send({"type": "http.response.body", "body": MEGABYTE, "more_body": True})

    async with serve(QuartTrio("none"), HttpSettings(), log, deaf) as served:
        async with served.connect() as client:
            await flood(client)
            client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        go_on.set()
        await served.wait_no_connection()


async def test_an_answer_that_ends_after_its_client_leaves_nothing(serve, log):
    go_on = trio.Event()

    async def late(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await receive()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body"})

    async with serve(QuartTrio("none"), HttpSettings(), log, late) as served:
        async with served.connect() as client:
            await client.request("GET", "/x")
            await client.until(b"done")
            client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        await trio.testing.wait_all_tasks_blocked(0.05)
        go_on.set()
        await served.wait_no_connection()
