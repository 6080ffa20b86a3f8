"""The README's shop, put together in the order in which a reader pastes it, beside a server with its own secrets."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(rb"http://127\.0\.0\.1:\d+")


def samples() -> list[tuple[str, str]]:
    """Return the language and the text of each sample, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[str]:
    """Run a Python module from when it says where it listens; gives that address."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *arguments],
        cwd=folder,
        env={**others, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = b""
        while not (found := ADDRESS.search(said)):
            line = process.stdout.readline()
            assert line, said.decode()
            said += line
        yield found[0].decode()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_SECONDS)


def read_secrets(file: Path) -> dict[str, str]:
    """Return what a shell has after reading the file."""
    script = f". {file}; {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    said = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    return {name: value for name, value in json.loads(said.stdout).items() if name.startswith("GREENROOM_")}


def post(url: str) -> dict:
    request = urllib.request.Request(url, method="POST")
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def test_the_shop_of_the_readme_tells_its_customer(tmp_path: Path, chromium: "Browser") -> None:
    pytest.importorskip("fastapi")
    secrets = tmp_path / "greenroom-dev.env"
    serve = ("broker", "serve", "--dev", "--port", "0", "--dev-secrets", str(secrets))
    with running(tmp_path, *serve) as server:
        texts = [(kind, text.replace("http://localhost:8000", server)) for kind, text in samples()]
        shop = [
            text
            for kind, text in texts
            if kind == "python" and ("@app.get" in text or '@app.post("/orders/{' in text)
        ]
        assert len(shop) == 2, "the token, and the publish"
        (page,) = [text for kind, text in texts if kind == "html"]
        (tmp_path / "shop.py").write_text("\n\n".join(shop))
        (tmp_path / "page.html").write_text(page)
        web = ("hypercorn", "shop:app", "--bind", "127.0.0.1:0")
        with running(tmp_path, *web, **read_secrets(secrets)) as address:
            visitor = chromium.new_context().new_page()
            visitor.set_default_timeout(PATIENCE_SECONDS * 1000)
            with visitor.expect_console_message(lambda message: message.text == "7 hello"):
                visitor.goto(address)
            assert post(f"{address}/orders/5/status?status=shipped") == {"order_id": "5", "status": "shipped"}
            visitor.wait_for_function("document.querySelector('#order').textContent === 'Order 5: shipped'")
            visitor.context.close()


def test_the_chat_shows_the_last_messages_then_live_ones_and_who_is_there(
    chromium: "Browser",
) -> None:
    folder = ROOT / "examples"
    with running(folder, "chat", GREENROOM_SERVER__PORT="0") as address:

        def visit(user: str) -> "Page":
            page = chromium.new_context().new_page()
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            page.goto(f"{address}/?user={user}")
            return page

        def wait(page: "Page", selector: str, text: str) -> None:
            page.wait_for_function(
                "([selector, text]) => document.querySelector(selector).textContent === text",
                arg=[selector, text],
            )

        ann = visit("ann")
        wait(ann, "#members", "ann")
        ann.fill("#text", "<b>first</b>")
        ann.press("#text", "Enter")
        wait(ann, "#log", "ann: <b>first</b>")
        bob = visit("bob")
        wait(bob, "#log", "ann: <b>first</b>")
        for page in (ann, bob):
            wait(page, "#members", "ann, bob")
            wait(page, "#online", "ann, bob")
        bob.fill("#text", "second")
        bob.press("#text", "Enter")
        wait(ann, "#log", "ann: <b>first</b>bob: second")
        bob.context.close()
        wait(ann, "#members", "ann")
        ann.context.close()
