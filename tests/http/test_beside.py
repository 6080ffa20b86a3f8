"""A program's own application beside ours, on one port."""

import re
from pathlib import Path

import fastapi
import pytest
import trio
from quart import websocket
from quart_trio import QuartTrio

from broker.http.hosting.beside import LEFT_TO_PROGRAM
from broker.http.hosting.lifespan import ApplicationError
from tests.support.patience import PATIENCE_SECONDS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def make_shop():
    shop = QuartTrio("shop")

    @shop.get("/")
    async def index() -> str:
        return "the shop"

    @shop.route("/api/orders", methods=["GET", "POST"])
    async def orders() -> str:
        return "orders"

    @shop.websocket("/echo")
    async def echo() -> None:
        await websocket.send("you said " + await websocket.receive())

    return shop


@pytest.fixture
async def world(open_world):
    async with open_world(beside=make_shop()) as world:
        yield world


async def test_each_gets_its_own_paths(world):
    for path in ["/", "/api/orders"]:
        assert (await world.client.get(path)).status_code == 200
    assert (await world.client.get("/")).text == "the shop"
    assert (await world.client.get("/health")).json() == {"status": "ok"}
    assert (await world.say("lobby", 1))["offset"] == 1
    assert (await world.client.get("/web/console/main.js")).status_code == 200


async def test_the_description_of_its_own_interface_stays_its_own(open_world):
    shop = fastapi.FastAPI(title="the shop")
    async with open_world(beside=shop) as world:
        assert (await world.client.get("/openapi.json")).json()["info"]["title"] == "the shop"
        assert "swagger" in (await world.client.get("/docs")).text
        ours = (await world.client.get("/web/openapi.json")).json()
        assert "/api/broadcast" in ours["paths"]
    async with open_world() as alone:
        assert (await alone.client.get("/openapi.json")).json() == ours


async def test_the_reference_says_which_paths_are_taken(world):
    text = REFERENCE.read_text().partition("The application gets")[2].partition("```")[2].partition("```")[0]
    app = world.served.app
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    assert set(text.split()) == rules - LEFT_TO_PROGRAM


async def test_paths_unknown_to_the_broker_are_answered_by_the_program(world):
    response = await world.client.get("/nothing")
    assert response.status_code == 404
    assert "html" in response.headers["Content-Type"]


async def test_a_wrong_method_on_our_path_is_ours_to_answer(world):
    response = await world.client.put("/api/broadcast")
    assert response.status_code == 405
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_its_websockets_are_served(world):
    async with world.connect() as client:
        await client.request(
            "GET",
            "/echo",
            *UPGRADE,
        )
        assert (await client.head())[0] == 101
        await client.send(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")
        await client.until(b"you said hi")


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [
        ("Upgrade: ,websocket,", "Connection: ,Upgrade,"),
        ("Upgrade: h2c, WebSocket", "Connection: keep-alive\r\nConnection: Upgrade\r\nConnection: x"),
        ("Upgrade: h2c\r\nUpgrade: websocket", "Connection: Upgrade"),
    ],
)
async def test_an_offer_of_a_websocket_may_be_any_list(world, upgrade, connection):
    """RFC 9110 sections 5.6.1.2, 7.6.1 and 7.8, as for the WebSockets of rooms."""
    async with world.connect() as client:
        await client.request("GET", "/echo", upgrade, connection, *UPGRADE[2:])
        assert (await client.head())[0] == 101


async def test_the_options_of_the_server_are_told_by_the_server(world):
    async with world.connect() as client:
        await client.request("OPTIONS", "*")
        status, headers, body = await client.response()
    assert (status, body) == (204, b"")
    assert headers["allow"].upper() == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    metrics = (await world.client.get("/metrics")).text
    assert re.search(
        r'greenroom_http_requests_total\{.*method="OPTIONS".*route="\*".* 1\.0$', metrics, re.MULTILINE
    )


OUR_PATHS = [
    "/api/rooms/lobby",
    "/health",
    "/ws/lobby",
    "/web/openapi.json",
    "/web/asyncapi.json",
    "/schema/greenroom.v1.json",
    "/web/console",
]
THEIR_PATHS = [
    "/",
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
    "/redoc",
    "/docs/oauth2-redirect",
    "/echo",
    "/api/orders",
    "/api",
    "/healthy",
    "/API/rooms",
]


@pytest.mark.parametrize("form", ["{}", "http://other.example{}", "//{}", "/%2f{}"])
async def test_a_websocket_for_one_of_our_paths_is_for_neither(open_world, form):
    came = []

    async def theirs(scope, receive, send):
        if scope["type"] != "lifespan":
            came.append((scope["type"], scope["path"]))
            await receive()
            await send({"type": "websocket.close"})

    async with open_world(beside=theirs) as world:
        for path in OUR_PATHS + THEIR_PATHS:
            async with world.connect() as client:
                await client.request("GET", form.format(path), *UPGRADE)
                status, _ = await client.head()
                assert status in ({200, 426} if path in OUR_PATHS else {403}), path
        assert [kind for kind, _ in came] == ["websocket"] * len(THEIR_PATHS)
        assert [path.lstrip("/") for _, path in came] == [path.lstrip("/") for path in THEIR_PATHS]
        assert world.rooms.statistics().rooms <= 1


@pytest.mark.parametrize("path", [*OUR_PATHS, "/api/nothing", "/nothing", "/"])
async def test_our_application_refuses_a_websocket_under_any_server(world, path):
    sent = []
    events = iter([{"type": "websocket.connect"}])

    async def receive():
        return next(events)

    async def send(event):
        sent.append(event)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await world.served.app(scope, receive, send)
    assert [event["type"] for event in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == (401 if path.startswith("/api") else 400)


async def test_its_start_and_stop_are_its_own(open_world):
    shop = make_shop()
    seen = []

    @shop.while_serving
    async def lifespan():
        seen.append("start")
        yield
        seen.append("stop")

    async with open_world(beside=shop):
        assert seen == ["start"]
    assert seen == ["start", "stop"]


async def test_if_it_does_not_start_nothing_is_served(open_world):
    shop = make_shop()
    shop.log_exception = lambda *_details: None

    @shop.before_serving
    async def fail() -> None:
        raise ValueError("no stock")

    with pytest.RaisesGroup(pytest.RaisesExc(ApplicationError, match="no stock"), flatten_subgroups=True):
        async with open_world(beside=shop):
            pytest.fail("served")


async def test_state_of_its_lifespan_reaches_its_requests(open_world):
    async def raw(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"]["greeting"] = b"from the start"
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["greeting"]})

    async with open_world(beside=raw) as world:
        assert (await world.client.get("/")).content == b"from the start"


async def test_an_application_that_hangs_at_its_end_is_left_behind(open_world, monkeypatch):
    monkeypatch.setattr("broker.http.hosting.http1.SHUTDOWN_SECONDS", 0.2)
    shop = make_shop()

    @shop.after_serving
    async def hang() -> None:
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE_SECONDS):
        async with open_world(beside=shop) as world:
            pass
    assert [event for _, event, _ in world.log.lines] == ["application failed to stop"]


async def test_an_application_that_hangs_at_its_start_is_given_up(open_world, monkeypatch):
    monkeypatch.setattr("broker.http.hosting.http1.STARTUP_SECONDS", 0.2)
    shop = make_shop()

    @shop.before_serving
    async def hang() -> None:
        await trio.sleep_forever()

    with pytest.RaisesGroup(pytest.RaisesExc(ApplicationError, match="too long"), flatten_subgroups=True):
        async with open_world(beside=shop):
            pytest.fail("served")


async def test_an_application_whose_lifespan_ends_by_itself_is_served(open_world):
    async def raw(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    async with open_world(beside=raw) as world:
        assert (await world.client.get("/")).content == b"here"


async def test_its_failing_websocket_is_a_line_of_the_log(open_world):
    async def raw(scope, receive, send):
        if scope["type"] == "websocket":
            raise ZeroDivisionError

    async with open_world(beside=raw) as world:
        async with world.connect() as client:
            await client.request(
                "GET",
                "/echo",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            )
            assert (await client.head())[0] == 500
        assert ("error", "request failed") in [line[:2] for line in world.log.lines]
