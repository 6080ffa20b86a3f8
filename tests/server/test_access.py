"""The API key, on every way in: all routes, methods, credentials and forms of a request, over a real socket."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlsplit

import attrs
import pytest
import trio

from broker.auth.claims import parse_claims
from broker.http.app import create_app
from tests.support.secrets import API_KEY

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
ROOM = "user_ann"
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade, close",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
OPEN_ROUTES = {
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/asyncapi.json",
    "/schema/greenroom.v1.json",
    "/",
}


def encode(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@attrs.frozen
class Form:
    """A way to write a request for a path."""

    name: str
    target: Callable[[str], str] = lambda path: path
    headers: tuple[str, ...] = ("Connection: close",)
    methods: tuple[str, ...] = METHODS
    version: str = "1.1"
    is_api: bool = True
    """Whether the target names something below /api; else nothing is there."""


PATHS = (
    Form("plain"),
    Form("absolute", lambda path: f"http://other.example{path}"),
    Form("absolute with doubled slashes", lambda path: f"http://other.example//{path}"),
    Form("absolute of another scheme", lambda path: f"ws://[::1]:1{path}"),
    Form("doubled slashes in front", lambda path: "//" + path),
    Form("doubled slashes behind api", lambda path: path.replace("/api/", "/api//")),
    Form("doubled slashes everywhere", lambda path: path.replace("/", "//")),
    Form("encoded", lambda path: "/".join(encode(part) for part in path.split("/"))),
    Form("encoded slashes", lambda path: "/" + encode(path)),
    Form("encoded in part", lambda path: path.replace("api", "%61p%69")),
    Form("a trailing slash", lambda path: path + "/"),
    Form("a query in front", lambda path: f"{path}?key={API_KEY}&/../"),
    Form("a dot in it", lambda path: path.replace("/api/", "/api/./")),
    Form("dots in front", lambda path: "/x/.." + path, is_api=False),
    Form("a dot in front", lambda path: "/." + path, is_api=False),
    Form("upper case", lambda path: path.replace("api", "API"), is_api=False),
    Form("encoded twice", lambda path: path.replace("api", "%2561pi"), is_api=False),
)
FORMS = (
    *PATHS,
    *[
        attrs.evolve(form, name=f"{form.name}, upgrade", headers=UPGRADE, methods=("GET", "POST"))
        for form in PATHS
    ],
    *[
        attrs.evolve(form, name=f"{form.name}, HTTP/1.0", version="1.0", methods=("GET", "POST"))
        for form in PATHS
    ],
)


def api_paths(broker) -> Iterator[str]:
    """Give a path for every route below /api, and some that have no route."""
    for rule in create_app(broker._http).url_map.iter_rules():
        if rule.rule.startswith("/api"):
            yield rule.rule.replace("<room>", ROOM).replace("<user>", "ann")
    yield from ("/api", "/api/nothing", "/api/rooms/a/b/c")


async def ask(url: str, method: str, form: Form, path: str, authorization: str | None) -> tuple[int, bytes]:
    """Return the status and all that came; the server closes."""
    address = urlsplit(url)
    headers = ["Host: test", "Content-Length: 0", *form.headers]
    if authorization is not None:
        headers.append(f"Authorization: {authorization}")
    head = "\r\n".join([f"{method} {form.target(path)} HTTP/{form.version}", *headers, "", ""])
    async with await trio.open_tcp_stream(address.hostname, address.port) as stream:
        await stream.send_all(head.encode())
        answer = b""
        async for received in stream:
            answer += received
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found, (head, answer)
    return int(found[1]), answer


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_nothing_of_the_api_is_done_without_the_key(serve, form):
    async with serve() as served:
        credentials = {
            "no key": None,
            "a wrong key": "Bearer wrong",
            "a client token": f"Bearer {served.token('bob')}",
        }
        paths = list(api_paths(served.broker))
        assert len(paths) >= 12
        for path in paths:
            for method in form.methods:
                for what, authorization in credentials.items():
                    status, answer = await ask(served.url, method, form, path, authorization)
                    case = (method, path, what, answer)
                    if not is_events(form.target(path)) or method not in {"GET", "HEAD", "OPTIONS"}:
                        assert status == (401 if form.is_api else 404), case
                    elif method == "OPTIONS":
                        assert (status, answer.partition(b"\r\n\r\n")[2]) == (200, b""), case
                    else:
                        # The one route where a client token will do; but bob's does not open ann's room.
                        assert status == (403 if what == "a client token" else 401), case
        assert served.broker.rooms.statistics().rooms == 0
        assert len(served.broker.connections) == 0


def is_events(target: str) -> bool:
    """Whether a target names the route of event streams, which looks at credentials itself."""
    path = unquote(target.partition("?")[0])
    return re.fullmatch(r"(\w+://[^/]*)?/*(?<![^/])api/rooms/[^/]+/events", path) is not None


@pytest.mark.parametrize("form", [form for form in FORMS if form.is_api], ids=lambda form: form.name)
async def test_with_the_key_every_form_comes_to_where_it_was_sent(serve, form):
    """Or the test above would prove nothing: what is refused there is there."""
    async with serve() as served:
        status, answer = await ask(served.url, "GET", form, f"/api/rooms/{ROOM}", f"Bearer {API_KEY}")
        is_there = "behind" not in form.name and "everywhere" not in form.name and "trailing" not in form.name
        if "query" in form.name:
            # Its parameters are looked at where it was sent, and are none that are there.
            assert status == 400, answer
        else:
            assert status == (200 if is_there and "a dot" not in form.name else 404), answer


async def test_pages_and_probes_need_no_key_however_they_are_asked_for(serve):
    async with serve() as served:
        for form in FORMS[:2]:
            for path in OPEN_ROUTES:
                assert (await ask(served.url, "GET", form, path, None))[0] == 200


async def test_a_hidden_bearer_is_in_a_room_and_does_not_show(serve):
    async with serve() as served, served.connect("/ws/lobby", "ann") as ann:
        await ann.receive("user_joined")
        hidden, plain = served.token("eve", is_hidden=True), served.token("eve")
        async with served.dial(f"/ws/lobby?token={hidden}") as eve:
            joined = await eve.receive("joined")
            assert joined["room_size"] == 1
            for token in (plain, hidden):
                await eve.ask("refreshed", type="refresh", token=token)
            await eve.ask("ack", type="chat", text="hello", id=1)
            heard = await ann.receive()
            assert (heard["type"], heard["user_id"], heard["text"]) == ("chat", "eve", "hello")
            assert [user["user_id"] for user in (await ann.ask("presence", type="presence"))["users"]] == [
                "ann"
            ]
            assert (await served.http.get("/api/rooms/lobby")).json()["room_size"] == 1
        await ann.ask("ack", type="chat", text="still here", id=2)


@pytest.mark.parametrize("value", [1, "true", "yes", None, {}, False])
def test_a_claim_hidden_of_another_shape_hides_nobody(value):
    assert not parse_claims({"sub": "ann", "hidden": value}).hidden
    assert parse_claims({"sub": "ann", "hidden": True}).hidden
