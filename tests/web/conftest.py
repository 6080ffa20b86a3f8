"""Pages of another origin in a real Chromium, and a real server that can be killed and started again."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import attrs
import jwt
import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import node_modules
from tests.support.secrets import API_KEY, SECRET
from tests.support.untraced import untraced

try:
    from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
except ImportError:
    sync_playwright = None

__all__ = ["node_modules"]

ROOT = Path(__file__).parents[2]
PAGES = Path(__file__).parent / "pages"
SCREENSHOTS = ROOT / "build" / "screenshots"
CLIENT = ROOT / "broker" / "web" / "client"
PATIENCE_MS = 1000 * PATIENCE_SECONDS
# Without the last ones Chromium looks for its maker's servers at every start.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def sign(user: str, ttl_seconds: float = 3600) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + ttl_seconds}, SECRET, algorithm="HS256")


@attrs.define
class Server:
    """`greenroom serve` on a SQLite file, on one port, in as many processes as it takes."""

    file: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        others = {
            name: value for name, value in untraced(os.environ).items() if not name.startswith("GREENROOM_")
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "broker",
                "serve",
                f"--port={self.port}",
                f"--engine=sqlite:///{self.file}",
            ],
            env={
                **others,
                "GREENROOM_SECRET": SECRET,
                "GREENROOM_API_KEY": API_KEY,
                "GREENROOM_SERVER__DRAIN_SECONDS": "0.2",
                "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(self.file.parent),
                # Browsers offer compression, and compress all that they send.
                "GREENROOM_WEBSOCKET__COMPRESSION": "true",
                "GREENROOM_WEBSOCKET__COMPRESSION_MIN_BYTES": "50",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if (entry := json.loads(line))["event"] == "listening":
                self.port = urlsplit(entry["url"]).port
                break
        # Nobody reads its log, which must not fill the pipe.
        self.reader = threading.Thread(target=self.process.stderr.read)
        self.reader.start()

    def kill(self) -> None:
        assert self.process is not None
        assert self.reader is not None
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "rooms.db")
    server.start()
    yield server
    server.kill()


class Application(SimpleHTTPRequestHandler):
    """The application that has the pages and gives out tokens."""

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path != "/token":
            super().do_GET()
            return
        body = sign(parse_qs(where.query)["user"][0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def application(tmp_path: Path) -> Iterator[str]:
    """Serve a copy of the pages, beside which a test may put what it builds; gives its address."""
    folder = tmp_path / "pages"
    shutil.copytree(PAGES, folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Application, directory=str(folder))) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if sync_playwright is None or executable is None:
        pytest.skip("needs Chromium and the package playwright")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=executable,
            args=ARGUMENTS,
            # People's browsers keep pages that they go back to.
            ignore_default_args=["--disable-back-forward-cache"],
        )


@attrs.define
class Visitor:
    """Somebody with a browser of their own, on the chat page."""

    context: "BrowserContext"
    page: "Page"
    attempts: list[str]

    def wait(self, condition: str, *values: Any) -> None:
        self.page.wait_for_function(condition, arg=list(values), timeout=PATIENCE_MS)

    def wait_text(self, text: str) -> None:
        self.wait("([text]) => heard.some((event) => event.text === text)", text)

    def texts(self) -> list[str]:
        return self.page.evaluate("heard.filter(({ type }) => type === 'chat').map(({ text }) => text)")

    def say(self, text: str) -> None:
        self.page.evaluate("(text) => void say(text)", text)

    def let_time_pass(self) -> None:
        """Let an hour pass in the page at once, so that all that it has put off is done."""
        self.page.clock.fast_forward(3_600_000)

    def show(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: "Browser", application: str, server: Server) -> Iterator[Visit]:
    """Return what opens a page (`chat.html`) with fields in its fragment, in a browser context of its own."""
    contexts = []

    def open_page(
        user: str, page_name: str = "chat.html", *, has_timers_of_ours: bool = False, **fields: str
    ) -> Visitor:
        context = chromium.new_context(viewport={"width": 480, "height": 480})
        contexts.append(context)
        if has_timers_of_ours:
            # For `let_time_pass`.
            context.clock.install()
        page = context.new_page()
        attempts: list[str] = []
        page.on("websocket", lambda socket: attempts.append(socket.url))
        fields = fields or {"tokenUrl": f"{application}/token"}
        fragment = urlencode({"server": server.url, "user": user, **fields}, quote_via=quote)
        page.goto(f"{application}/{page_name}#{fragment}")
        visitor = Visitor(context, page, attempts)
        # What a module awaits does not hold up the page's `load`.
        visitor.wait("() => window.heard !== undefined && document.readyState === 'complete'")
        return visitor

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def make_token() -> Callable[..., str]:
    def make(kind: str, user: str = "ann") -> str:
        if kind == "nonsense":
            return "nonsense"
        if kind == "of another secret":
            return jwt.encode({"sub": user}, SECRET[::-1], algorithm="HS256")
        return sign(user, {"good": 3600, "short": 2, "expired": -10}[kind])

    return make


@pytest.fixture
def client_folder() -> Path:
    return CLIENT
