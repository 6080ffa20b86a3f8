"""Hooks of a whole broker, over real sockets: an application in another process' place, event streams, metrics, clients."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from broker.client import ClosedError, RefusedError, connect
from broker.config.settings import HookSettings
from broker.hooks import Hook, verify
from tests.support.application import Application, open_application, response
from tests.support.patience import PATIENCE_SECONDS
from tests.support.served import Serve, Served

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REFUSED = response({"allow": False, "reason": "not your order"})


@contextlib.asynccontextmanager
async def served_with(serve: Serve, *on: str, **options: Any) -> AsyncIterator[tuple[Served, Application]]:
    async with open_application() as app:
        fields = {"url": app.url, "secret": SECRET, "timeout_seconds": PATIENCE_SECONDS} | options
        async with serve(hooks=(HookSettings(on=on, **fields),)) as served:  # type: ignore[arg-type]
            yield served, app


async def metrics_of(served: Served) -> str:
    """Return the metrics without the labels of the node."""
    text = (await served.http.get("/metrics")).text
    return re.sub(r'(?:,node="[^"]*"|node="[^"]*",|,worker="[^"]*"|worker="[^"]*",)', "", text)


async def events(served: Served, room: str, **headers: str) -> httpx2.Response:
    target = f"/api/rooms/{room}/events?token={served.token('ann')}"
    return await served.http.get(target, headers={"Authorization": "", **headers})


async def test_an_application_decides_and_its_answers_are_counted(serve: Serve) -> None:
    async with served_with(serve, "connect", "join", "publish", headers=("User-Agent",)) as (served, app):
        async with served.connect("/ws/order-5") as ann:
            await ann.receive("joined")
            await ann.ask("ack", type="chat", text="hi", id=1)
            app.answer = REFUSED
            assert (await ann.ask("error", type="chat", text="hi", id=2))["message"] == "not your order"
        async with served.connect("/ws/order-5") as bob:
            assert await bob.close_code() == (4003, "not your order")
        assert app.connections == 1
        for headers, body in app.requests:
            asked = verify(headers, body, SECRET)
            assert "websockets" in asked["headers"]["user-agent"]
        assert [asked["type"] for asked in app.asked] == ["connect", "join", "publish", "publish", "connect"]
        metrics = await metrics_of(served)
        for line in (
            'greenroom_hook_questions_total{hook="0",outcome="allowed"} 3.0',
            'greenroom_hook_questions_total{hook="0",outcome="refused"} 2.0',
            'greenroom_hook_questions_total{hook="0",outcome="timeout"} 0.0',
            'greenroom_hook_answer_seconds_count{hook="0"} 5.0',
            'greenroom_hook_away{hook="0"} 0.0',
            'greenroom_refusals_total{reason="hook"} 2.0',
        ):
            assert line in metrics


async def test_a_service_is_the_application_itself_and_is_not_asked_about(serve: Serve) -> None:
    async with served_with(serve, "connect", "join", "publish") as (served, app):
        app.answer = REFUSED
        answer = await served.http.post("/api/rooms/a/messages", json={"type": "note"})
        assert answer.status_code == 200
        await served.broker.publish("a", {"type": "note"})
        async with served.http.stream("GET", "/api/rooms/a/events") as stream:
            assert stream.status_code == 200
        assert app.asked == []


async def test_calls_are_answered_counted_and_told_from_a_message_of_the_type_result(serve: Serve) -> None:
    async with served_with(serve, "call", when_away="allow") as (served, app):
        async with served.connect("/ws/order-5") as ann:
            await ann.receive("joined")
            app.answer = response({"allow": True, "data": {"status": "paid"}})
            result = await ann.ask("result", type="call", method="status", data=[5], id="a")
            assert result == {"type": "result", "id": "a", "data": {"status": "paid"}}
            [(headers, body)] = app.requests
            asked = verify(headers, body, SECRET)
            assert (asked["type"], asked["room"]) == ("call", "order-5")
            assert asked["call"] == {"method": "status", "data": [5], "id": "a"}
            app.answer = REFUSED
            assert (await ann.ask("error", type="call", method="status", id=2))["message"] == "not your order"
            app.answer = response(b"", 500)
            away = await ann.ask("error", type="call", method="status", id=3)
            assert (away["code"], away["message"]) == ("unavailable", "the application does not answer")
            for kind in ("result", "call"):
                message = {"type": kind, "id": "a", "data": 1, "method": "status"}
                answer = await served.http.post("/api/rooms/order-5/messages", json=message)
                assert answer.status_code == 200, answer.text
                event = await ann.receive(kind)
                assert {name: event[name] for name in message} == message
                assert (event["room"], event["offset"]) == ("order-5", answer.json()["offset"])
        metrics = await metrics_of(served)
        for line in (
            'greenroom_hook_questions_total{hook="0",outcome="allowed"} 1.0',
            'greenroom_hook_questions_total{hook="0",outcome="refused"} 1.0',
            'greenroom_hook_questions_total{hook="0",outcome="failed"} 1.0',
            'greenroom_refusals_total{reason="hook"} 1.0',
            'greenroom_refusals_total{reason="hook_away"} 1.0',
        ):
            assert line in metrics


@pytest.mark.parametrize("kind", ["connect", "join"])
async def test_event_streams_are_asked_about_as_websockets_are(serve: Serve, kind: str) -> None:
    async with served_with(serve, kind) as (served, app):
        app.answer = REFUSED
        refused = await events(served, "order-5")
        assert (refused.status_code, refused.json()["detail"]) == (403, "not your order")
        [asked] = app.asked
        assert (asked["type"], asked["transport"], asked["room"]) == (kind, "event_stream", "order-5")
        assert (asked["user_id"], asked["address"]) == ("ann", "127.0.0.1")
        app.answer = response(b"", 500)
        away = await events(served, "order-5")
        assert (away.status_code, away.json()["detail"]) == (503, "the application does not answer")
        ended = await events(served, "order-5", Accept="text/event-stream")
        assert (ended.status_code, "event:close" in ended.text.replace(" ", "")) == (200, True)
        assert '"code":1013' in ended.text.replace(" ", "")
        assert not len(served.broker.connections)
        app.answer = response({"allow": True})
        target = f"/api/rooms/order-5/events?token={served.token('ann')}"
        async with served.http.stream("GET", target, headers={"Authorization": ""}) as stream:
            assert stream.status_code == 200
            assert len(served.broker.connections) == 1


async def test_the_python_client_shows_the_reason(serve: Serve) -> None:
    async with served_with(serve, "connect", "join", "publish") as (served, app):
        token = served.token("ann")
        async with connect(served.url, token=token) as client, client.join("order-5") as room:
            app.answer = REFUSED
            with pytest.raises(RefusedError, match="not your order"):
                await room.chat("hi")
            with pytest.raises(RefusedError, match="not your order"):
                async with client.join("order-6") as other:
                    await other.chat("hi")
        async with connect(served.url, token=served.token("ann")) as client:
            with pytest.raises(ClosedError, match="not your order"):
                async with client.join("order-5") as room:
                    await room.chat("hi")


async def test_a_program_decides_itself_before_any_address(serve: Serve) -> None:
    asked = []

    async def decide(ask: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append((ask["room"], ask["claims"]["sub"]))
        return {"allow": ask["room"] == "a", "reason": "not this one"}

    async with serve(parts={"hooks": [Hook(decide, on=["join"], rooms=["*"])]}) as served:
        async with served.connect("/ws/a"):
            pass
        async with served.connect("/ws/b") as ann:
            assert await ann.close_code() == (4003, "not this one")
        assert asked == [("a", "ann"), ("b", "ann")]
        assert 'greenroom_hook_away{hook="own 0"} 0.0' in await metrics_of(served)


def test_a_kind_of_hook_that_there_is_not_is_refused() -> None:
    async def decide(ask: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    with pytest.raises(ValueError, match="leave"):
        Hook(decide, on=["leave"])
