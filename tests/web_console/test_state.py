"""The console shows the state of the node: the last minutes, slow readers, readiness, and its absence."""

import re
import socket

import pytest
import trio

from broker.errors import EngineUnavailableError
from tests.support.patience import PATIENCE_SECONDS


async def test_a_console_that_is_opened_late_shows_the_minutes_before(world):
    await world.enter("lobby", "ann")
    points = []
    with trio.fail_after(PATIENCE_SECONDS):
        while len(points) < 3:
            await world.publish("lobby", type="note")
            points = (await world.http.get("/api/node")).json()["traffic"]

    def look(page):
        curve = page.locator("#plot-connections .curve")
        curve.wait_for(state="attached")
        assert curve.get_attribute("d").count("L") >= 2
        assert page.locator("#plot-connections .now").text_content() == "1"
        assert page.locator("#plot-p99 .curve").count() >= 1
        plot = page.get_by_role("img", name="Deliveries per second")
        assert "highest" in plot.get_attribute("aria-label")

    await world.browse(look)


async def test_a_console_is_no_user_s_connection_and_a_quiet_second_keeps_the_p99_of_the_minute(world):
    def look(page):
        page.goto(f"{world.url}/#room=den")
        page.locator("#room-count", has_text="0 connections").wait_for()
        world.call(world.say, "den", "once")
        page.wait_for_function("() => /\\d/.test(document.querySelector('#plot-p99 .now').textContent)")
        # Two more points, in which nothing is said.
        time = "() => document.querySelector('#plot-deliveries svg').innerHTML"
        for _ in range(2):
            page.wait_for_function(f"before => ({time})() !== before", arg=page.evaluate(time))
        assert re.search(r"\d", page.locator("#plot-p99 .now").text_content())
        assert page.locator("#plot-connections .now").text_content() == "0"

    await world.browse(look)


async def test_a_slow_reader_is_named_with_what_waits_and_can_be_disconnected(open_world):
    async with open_world(websocket={"outbox_bytes": 8_000_000, "ping_seconds": 600}) as world:
        request = (
            f"GET /ws/lobby?token={world.token('sleepy')} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        stream = await trio.open_tcp_stream("127.0.0.1", int(world.url.rpartition(":")[2]))
        async with stream:
            await stream.send_all(request.encode())
            while b'"joined"' not in await stream.receive_some():
                pass
            with trio.fail_after(PATIENCE_SECONDS):
                waiting = 0
                while waiting < 2_000_000:
                    await world.publish("lobby", type="note", text="x" * 60_000)
                    waiting = sum(connection.queued_bytes for connection in world.broker.connections)

            def look(page):
                page.locator("#slow-count", has_text="1 connection").wait_for()
                row = page.locator("#slow-body tr")
                assert row.locator("td").first.text_content() == "sleepy"
                assert row.locator("td").nth(1).text_content().endswith("MiB")
                page.get_by_role("button", name="Disconnect sleepy").click()
                page.get_by_role("button", name="Close all connections").click()
                page.get_by_text("Nothing waits").wait_for()

            await world.browse(look)


async def test_an_engine_that_cannot_serve_is_told(world, monkeypatch):
    async def wait_ready() -> None:
        raise EngineUnavailableError("the disk is full")

    monkeypatch.setattr(world.broker._http.engine, "wait_ready", wait_ready)

    def look(page):
        page.locator("#state", has_text="not ready").wait_for()
        page.locator("#facts", has_text="no: engine: unavailable").wait_for()

    await world.browse(look)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("is_listening", [True, False], ids=["listening", "about to listen"])
async def test_a_server_that_was_away_is_there_again_and_the_room_goes_on(
    open_world, port, is_listening, shoot
):
    ends = [(trio.Event(), trio.Event()), (trio.Event(), trio.Event())]

    async def serve(end, ended, *, task_status):
        async with open_world(port=port) as world:
            task_status.started(world)
            await end.wait()
        ended.set()

    async with trio.open_nursery() as nursery:

        async def stop_first():
            end, ended = ends[0]
            end.set()
            await ended.wait()

        async def start_second():
            second = await nursery.start(serve, *ends[1])
            await second.say("den", "after the restart")

        def look(page):
            if not is_listening:
                page.route("**/api/rooms/den/events", lambda route: route.abort())
            page.goto(f"{first.url}/#room=den")
            page.locator("#room-log").get_by_text("before the restart").wait_for()
            page.get_by_role("tab", name="Try it as a user").click()
            page.get_by_role("button", name="Join").click()
            page.get_by_text("In the room as ann").wait_for()
            first.call(stop_first)
            page.locator("#state", has_text="no answer").wait_for()
            # The numbers are grey and dated, and it counts down to the next attempt.
            page.locator("#away", has_text=re.compile(r"since \d\d:\d\d:\d\d\..*Again in \d s")).wait_for()
            assert float(page.evaluate("getComputedStyle(document.querySelector('.plot')).opacity")) < 1
            # A typed line is seen until it is stored.
            page.get_by_label("In the room as ann").fill("typed while it was away")
            page.get_by_role("button", name="Send").click()
            shoot(page, "away")
            assert page.get_by_label("In the room as ann").input_value() == "typed while it was away"
            first.call(start_second)
            page.locator("#state", has_text="ready").wait_for()
            page.unroute("**/api/rooms/den/events")
            page.locator("#room-log").get_by_text("after the restart").wait_for()
            # The memory engine has forgotten the room, and whoever looks is told so.
            page.get_by_text("the server no longer knows").wait_for()
            page.locator("#room-log").get_by_text("typed while it was away").wait_for()
            page.wait_for_function("() => document.getElementById('try-text').value === ''")
            assert not page.locator("#away").is_visible()

        first = await nursery.start(serve, *ends[0])
        await first.say("den", "before the restart")
        try:
            await first.browse(look)
        finally:
            nursery.cancel_scope.cancel()
