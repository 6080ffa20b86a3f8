"""Traces of publishes, by the real SDK: from a request or a hook through the room to the fan-out, hooks and webhooks."""

import contextlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trio

from broker.config.settings import HookSettings, TraceSettings
from broker.errors import ConfigurationError
from broker.room_actors import Member, Message, RoomActor
from broker.traces.opening import check_traces
from tests.support.application import open_application
from tests.support.patience import PATIENCE_SECONDS
from tests.support.served import Serve, Served

pytest.importorskip("opentelemetry.sdk", reason="the extra traces is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

if TYPE_CHECKING:
    from pathlib import Path

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Spans:
    """The spans that have ended."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    async def wait(self, count: int) -> dict[str, ReadableSpan]:
        """Wait for so many, and return them by name."""
        with trio.fail_after(PATIENCE_SECONDS):
            while len(self.all()) < count:
                await trio.sleep(0.01)
        found = {span.name: span for span in self.all()}
        assert len(self.all()) == count, found
        self.exporter.clear()
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


POSTS: dict[str, tuple[str, Any, dict[str, str], str]] = {
    "plain": ("/api/rooms/den/messages", {"type": "note"}, {}, "/api/rooms/<room>/messages"),
    # A header that a plain post does not have.
    "quart": ("/api/rooms/den/messages", {"type": "note"}, {"Range": "x"}, "/api/rooms/<room>/messages"),
    "broadcast": ("/api/broadcast", {"rooms": ["den"], "message": {"type": "note"}}, {}, "/api/broadcast"),
    "broadcast by quart": (
        *("/api/broadcast", {"rooms": ["den"], "message": {"type": "note"}}),
        *({"Range": "x"}, "/api/broadcast"),
    ),
    "lines": ("/api/messages", {"room": "den", "message": {"type": "note"}}, {}, "/api/messages"),
    "lines by quart": (
        *("/api/messages", {"room": "den", "message": {"type": "note"}}),
        *({"Range": "x"}, "/api/messages"),
    ),
}


async def post(served: Served, name: str, traceparent: str | None) -> None:
    path, body, headers, route = POSTS[name]
    if traceparent is not None:
        headers = headers | {"traceparent": traceparent}
    kind = "application/x-ndjson" if route == "/api/messages" else "application/json"
    answer = await served.http.post(path, content=json.dumps(body), headers={"Content-Type": kind, **headers})
    assert answer.status_code == 200, answer.text


async def test_each_kind_of_post_is_traced_to_the_fan_out(serve: Serve, spans: Spans) -> None:
    async with (
        serve(parts={"tracer_provider": spans.provider}) as served,
        served.connect("/ws/den") as ann,
    ):
        await ann.receive("joined")
        for name, (*_, route) in POSTS.items():
            await post(served, name, CALLER)
            event = await ann.receive("note")
            assert not re.search("trace", json.dumps(event)), "members are shown nothing of it"
            found = await spans.wait(3)
            request, append, fanout = found[f"POST {route}"], found["append"], found["fan-out"]
            assert {trace_of(span) for span in found.values()} == {TRACE}, name
            assert parent_of(request) == "00f067aa0ba902b7", name
            assert parent_of(append) == parent_of(fanout) == id_of(request), name
            assert request.attributes["http.response.status_code"] == 200
            assert request.attributes["http.route"] == route
            assert fanout.attributes == {"greenroom.room": "den", "greenroom.members": 1}
            await post(served, name, None)
            found = await spans.wait(3)
            assert parent_of(found[f"POST {route}"]) is None, "a trace begins here"
            assert parent_of(found["fan-out"]) == id_of(found[f"POST {route}"])
            # What is no traceparent is none (W3C Trace Context, section 3.2.2.5).
            await post(served, name, "00-0-0-01")
            assert parent_of((await spans.wait(3))[f"POST {route}"]) is None
            # Its caller has decided that this one is not exported.
            await post(served, name, UNSAMPLED)
            await ann.receive("note")
        assert spans.all() == []


class Echo(RoomActor[None], pattern="den"):
    """Lets every message pass, and says another."""

    async def on_message(self, sender: Member | None, message: Message) -> Message | None:
        self.say({"type": "echo"})
        return message


async def test_a_message_to_a_room_with_code_is_traced_to_the_fan_out(serve: Serve, spans: Spans) -> None:
    parts = {"tracer_provider": spans.provider, "rooms": [Echo]}
    async with serve(parts=parts) as served, served.connect("/ws/den") as ann:
        await ann.receive("joined")
        await post(served, "plain", CALLER)
        await ann.receive("note")
        found = await spans.wait(3)
        request, append, fanout = (
            found[name] for name in ("POST /api/rooms/<room>/messages", "append", "fan-out")
        )
        assert {trace_of(span) for span in found.values()} == {TRACE}
        assert parent_of(append) == parent_of(fanout) == id_of(request)
        assert append.attributes == {"greenroom.room": "den", "greenroom.batch": 2}


async def test_requests_that_fail_or_publish_nothing(serve: Serve, spans: Spans) -> None:
    async with serve(parts={"tracer_provider": spans.provider}) as served:
        await served.http.get("/api/rooms/den/messages")
        await served.http.post("/api/revocations", json={"user_id": "ann"})
        await served.http.get("/health")
        assert spans.all() == []
        answer = await served.http.post("/api/rooms/den/messages", json={"type": "chat"})
        request = (await spans.wait(1))["POST /api/rooms/<room>/messages"]
        assert request.attributes["http.response.status_code"] == answer.status_code == 400
        await served.http.post("/api/rooms/den/messages", json={"type": "x"}, headers={"Authorization": ""})
        request = (await spans.wait(1))["POST /api/rooms/<room>/messages"]
        assert request.attributes["http.response.status_code"] == 401


async def test_a_hook_begins_a_trace_and_hands_it_on(serve: Serve, spans: Spans) -> None:
    async with open_application() as app:
        hook = HookSettings(
            on=("connect", "join", "publish", "call"),
            url=app.url,
            secret=SECRET,
            timeout_seconds=PATIENCE_SECONDS,
        )
        async with serve(hooks=(hook,), parts={"tracer_provider": spans.provider}) as served:
            target = f"/ws?token={served.token('ann')}"
            async with served.dial(target, additional_headers={"traceparent": CALLER}) as ann:
                await ann.ask("pong", type="ping")
                connect = (await spans.wait(1))["hook connect"]
                assert (trace_of(connect), parent_of(connect)) == (TRACE, "00f067aa0ba902b7")
                await ann.ask("joined", type="join", room="den")
                join = (await spans.wait(1))["hook join"]
                assert trace_of(join) != TRACE, "a connection lives longer than the request that opened it"
                await ann.ask("ack", type="chat", text="hi", room="den", id=1)
                found = await spans.wait(3)
                asked = found["hook publish"]
                assert parent_of(asked) is None
                assert parent_of(found["append"]) == parent_of(found["fan-out"]) == id_of(asked)
                headers = [dict(headers) for headers, _ in app.requests]
                assert headers[-1]["traceparent"].startswith(f"00-{trace_of(asked)}-{id_of(asked)}-0")
                assert len({each["traceparent"] for each in headers}) == 3


async def test_webhooks_are_told_the_trace_of_their_entries(
    serve: Serve, spans: Spans, tmp_path: "Path"
) -> None:
    for engine in ("memory://", f"sqlite:///{tmp_path}/rooms.db"):
        async with open_application() as app:
            webhook = {"name": "shop", "url": app.url, "secret": SECRET, "kinds": ["message"]}
            sections = {"server": {"engine": engine}, "webhooks": [webhook]}
            async with serve(parts={"tracer_provider": spans.provider}, **sections) as served:
                await post(served, "plain", CALLER)
                with trio.fail_after(PATIENCE_SECONDS):
                    while not app.requests:
                        await trio.sleep(0.01)
                found = await spans.wait(4)
                headers, body = app.requests[0]
                sent = found["webhook"]
                assert dict(headers)["traceparent"] == f"00-{TRACE}-{id_of(sent)}-01"
                request = found["POST /api/rooms/<room>/messages"]
                assert parent_of(sent) == id_of(request)
                [entry] = json.loads(body)
                assert entry["traceparent"] == f"00-{TRACE}-{id_of(request)}-01"
                assert "traceparent" not in entry["content"]


async def test_what_is_not_sampled_leaves_no_trace_in_events(serve: Serve, tmp_path: "Path") -> None:
    spans = Spans(sampler=ParentBased(ALWAYS_OFF))
    async with serve(parts={"tracer_provider": spans.provider}) as served:
        await post(served, "plain", None)
        run = await served.broker.rooms.read("den", None, 10, reverse=False)
        assert [event.header.traceparent for event in run.events] == [None]
        await post(served, "plain", CALLER)
        run = await served.broker.rooms.read("den", None, 10, reverse=False)
        assert [bool(event.header.traceparent) for event in run.events] == [False, True]


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    @contextlib.contextmanager
    def serving(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def spans(self) -> dict[str, Any]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


def own_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "Otel" in thread.name}


async def test_spans_are_sent_by_otlp_and_the_last_ones_at_the_stop(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    with Collector().serving() as collector:
        traces = {"enabled": True, "endpoint": collector.url, "service_name": "rooms-of-the-shop"}
        async with serve(traces=traces) as served:
            await post(served, "plain", CALLER)
            assert own_threads() == set(), "the SDK's own thread may outlive a server"
        assert set(collector.spans()) == {"POST /api/rooms/<room>/messages", "append", "fan-out"}
        assert {span.trace_id.hex() for span in collector.spans().values()} == {TRACE}
        resource = collector.requests[0].resource_spans[0].resource
        names = {pair.key: pair.value.string_value for pair in resource.attributes}
        assert names["service.name"] == "rooms-of-the-shop"


async def test_the_variables_of_opentelemetry_count(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector().serving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/v1/traces"))
        monkeypatch.setenv("OTEL_SERVICE_NAME", "by the environment")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        async with serve(traces={"enabled": True}) as served:
            await post(served, "plain", None)
            await post(served, "plain", CALLER)
        assert {span.trace_id.hex() for span in collector.spans().values()} == {TRACE}
        resource = collector.requests[0].resource_spans[0].resource
        assert "by the environment" in {pair.value.string_value for pair in resource.attributes}


async def test_a_receiver_that_fails_harms_nothing_and_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(status=400).serving() as collector:
        async with serve(traces={"enabled": True, "endpoint": collector.url}) as served:
            await post(served, "plain", None)
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("traces not exported")
    # Nobody listens there any more.
    async with serve(traces={"enabled": True, "endpoint": collector.url}) as served:
        await post(served, "plain", None)


async def test_without_traces_nothing_is_imported() -> None:
    code = "import sys, broker.assembly; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert done.stdout == b"[]\n"


def test_a_missing_package_is_a_problem_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    check_traces(TraceSettings(enabled=True))
    monkeypatch.setattr("broker.traces.opening._is_there", lambda name: False)
    check_traces(TraceSettings())
    with pytest.raises(ConfigurationError, match=r"traces.enabled: .*pip install 'greenroom\[traces\]'"):
        check_traces(TraceSettings(enabled=True))
