"""The console in a real Chromium, and a whole broker in this process that it looks at."""

import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx2
import msgspec
import pytest
import trio
import websockets.exceptions
import websockets.trio.client

from broker import Broker, open_broker
from broker.assembly import OwnParts
from broker.auth.mint import mint_token
from broker.config.settings import Settings
from broker.http.nodes.siblings import Siblings
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET
from tests.support.served import ANSWERS_OF_ALL_NODES

try:
    from playwright.sync_api import Browser, Page, Playwright, sync_playwright
except ImportError:
    sync_playwright = None

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE_MS = 1000 * PATIENCE_SECONDS
# Without the last ones Chromium looks for its maker's servers at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@attrs.define
class Chromium:
    """One browser, in the one thread that may touch it."""

    thread: ThreadPoolExecutor
    playwright: "Playwright"
    browser: "Browser"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if sync_playwright is None or executable is None:
        pytest.skip("needs Chromium and the package playwright")
    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(sync_playwright().start).result()
        launch = partial(playwright.chromium.launch, executable_path=executable, args=ARGUMENTS)
        browser = thread.submit(launch).result()
        yield Chromium(thread, playwright, browser)
        thread.submit(browser.close).result()
        thread.submit(playwright.stop).result()


@attrs.define
class Visit:
    """The actions of a page during a visit."""

    origin: str
    elsewhere: list[str] = attrs.Factory(list)
    complaints: list[str] = attrs.Factory(list)

    def watch(self, page: "Page") -> None:
        page.on("request", lambda request: self._see(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._hear(message.type, message.text))

    def _see(self, url: str) -> None:
        if not url.startswith((self.origin, self.origin.replace("http", "ws"), "data:")):
            self.elsewhere.append(url)

    def _hear(self, kind: str, text: str) -> None:
        # Chromium tells of each answer that is an error; those are part of some tests.
        if kind in {"error", "warning"} and not text.startswith(
            ("Failed to load resource", "WebSocket connection")
        ):
            self.complaints.append(text)


@attrs.frozen
class World:
    """A broker that is being served, and a browser to look at it."""

    broker: Broker
    url: str
    http: httpx2.AsyncClient
    chromium: Chromium
    nursery: trio.Nursery
    trio_token: trio.lowlevel.TrioToken

    async def browse(self, script: Callable[["Page"], Any], *, signed_in: bool = True, **options: Any) -> Any:
        """Run `script` with a page of a browser of its own; nothing may be loaded from elsewhere or go wrong."""

        def run() -> Any:
            with self.chromium.browser.new_context(**options) as context:
                context.set_default_timeout(PATIENCE_MS)
                page = context.new_page()
                visit = Visit(self.url)
                visit.watch(page)
                page.goto(f"{self.url}/#key={API_KEY}" if signed_in else self.url)
                result = script(page)
                assert visit.elsewhere == []
                assert visit.complaints == []
                return result

        return await trio.to_thread.run_sync(lambda: self.chromium.thread.submit(run).result())

    def token(self, user_id: str) -> str:
        return mint_token(secret=SECRET, algorithm="HS256", user_id=user_id, ttl_seconds=600, now=time.time())

    async def enter(self, room: str, user_id: str) -> "Member":
        """Let somebody into a room over a WebSocket, until it leaves or the test ends."""
        send, receive = trio.open_memory_channel[Member](1)
        self.nursery.start_soon(self._be_member, room, user_id, send)
        return await receive.receive()

    async def _be_member(self, room: str, user_id: str, entered: trio.MemorySendChannel["Member"]) -> None:
        url = self.url.replace("http", "ws") + f"/ws?token={self.token(user_id)}"
        async with websockets.trio.client.connect(url) as connection:
            member = Member(connection)
            await member.send(type="join", room=room)
            await member.next("joined")
            entered.send_nowait(member)
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                async for _ in connection:
                    pass

    def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Do something here, in the middle of a script that runs in the browser's thread."""
        return trio.from_thread.run(function, *arguments, trio_token=self.trio_token)

    async def publish(self, room: str, **message: object) -> None:
        await self.broker.publish(room, dict(message))

    async def say(self, room: str, text: str) -> None:
        await self.publish(room, type="note", text=text)


@attrs.frozen
class Member:
    """Somebody in a room."""

    connection: websockets.trio.client.ClientConnection

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def chat(self, room: str, text: str) -> None:
        await self.send(type="chat", room=room, text=text)

    async def show(self, room: str, state: object) -> None:
        await self.send(type="set_state", room=room, state=state)

    async def next(self, kind: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(await self.connection.recv())
            if message["type"] == kind:
                return message

    async def leave(self) -> None:
        await self.connection.aclose()


@asynccontextmanager
async def open_world_with(
    chromium: Chromium,
    *,
    dev: bool = True,
    port: int = 0,
    siblings: Siblings | None = None,
    parts: OwnParts | None = None,
    **sections: Any,
) -> AsyncIterator[World]:
    tables: dict[str, Any] = {
        "server": {"port": port, "drain_seconds": 0.2},
        "auth": {"secret": SECRET},
        "http": {**ANSWERS_OF_ALL_NODES, "api_key": API_KEY},
    }
    for section, values in sections.items():
        tables[section] = {**tables.get(section, {}), **values} if isinstance(values, dict) else values
    settings = msgspec.convert(tables, Settings)
    async with (
        open_broker(settings, siblings=siblings, dev=dev, **(parts or {})) as broker,
        trio.open_nursery() as nursery,
    ):
        url = await nursery.start(broker.serve)
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with (
            httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as http,
            trio.open_nursery() as members,
        ):
            yield World(broker, url, http, chromium, members, trio.lowlevel.current_trio_token())
            members.cancel_scope.cancel()
        broker.begin_drain()


OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def open_world(chromium: Chromium) -> OpenWorld:
    """Serve a broker with some settings changed: `async with open_world(dev=False) as world`."""
    return partial(open_world_with, chromium)


@pytest.fixture
async def world(open_world: OpenWorld) -> AsyncIterator[World]:
    """A broker as `--dev` serves it."""
    async with open_world() as world:
        yield world


@pytest.fixture
def shoot() -> Callable[["Page", str], None]:
    """Take a screenshot where a person can look: build/screenshots/console-*.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def taken(page: "Page", name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"console-{name}.png", full_page=True)

    return taken
