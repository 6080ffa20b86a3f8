"""Each sample of the README runs, in the order in which a reader pastes them, beside a server with its own secrets."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import attrs
import pytest

from broker import Publisher
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import EXAMPLES, ROOT, environment, read_until, run, running
from tests.support.redis import RedisServer, shared_redis

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["shared_redis"]

README = (ROOT / "README.md").read_text()
SAMPLES: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
"""The language and the text of each, in order."""


def sample(language: str, word: str) -> str:
    """Return the one sample in a language that has a word."""
    [text] = [text for kind, text in SAMPLES if kind == language and word in text]
    return text


def finish(command: str, folder: Path, **environ: str) -> str:
    """Run a command of a shell to its end; gives its output."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@attrs.frozen
class Server:
    """What `make serve` has started, and its secrets as a shell has them that has read their file."""

    url: str
    secrets: dict[str, str]

    def at_its_address(self, text: str) -> str:
        """Return a sample that finds the server, and starts an application on a free port."""
        host = self.url.removeprefix("http://")
        return text.replace("localhost:8000", host).replace("5000", "0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    serve = "exec greenroom serve --dev --port 0 --dev-secrets greenroom-dev.env"
    with running(serve, folder) as (url, _):
        dump = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
        variables = json.loads(finish(f". ./greenroom-dev.env; {dump}", folder))
        yield Server(url, {name: text for name, text in variables.items() if name.startswith("GREENROOM_")})


@pytest.fixture
def curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")


def test_there_are_no_other_samples_and_no_other_order() -> None:
    languages = [language for language, _ in SAMPLES]
    assert languages == ["sh", "sh", "python", "python", "js", "html", "sh", "sh", "sh", "python", "python"]


def test_the_page_is_that_of_the_examples() -> None:
    assert sample("html", "greenroom.js") == (EXAMPLES / "page.html").read_text()


def test_the_first_commands_are_targets_of_make() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(re.findall(r"^make (\S+)", sample("sh", "make serve"), re.MULTILINE)) == {"serve", "test"}
    assert {"serve", "test"} <= set(targets)


def test_the_servers_of_production_start(tmp_path: Path, shared_redis: RedisServer) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    install, *lines = sample("sh", "openssl").splitlines()
    assert install.startswith("pip install . ")
    exports = [line for line in lines if line.startswith("export ")]
    servers = [line for line in lines if line not in exports]
    assert [line.split()[:2] for line in servers] == [["greenroom", "serve"]] * 3
    for line in servers:
        command = line.replace("--port 8000", "").replace("redis://localhost:6379/0", shared_redis.url)
        command = command.replace("--workers 4", "--workers 2")
        script = "\n".join([*exports, f"exec {command}"])
        others = {"GREENROOM_SERVER__PORT": "0", "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(tmp_path)}
        with running(script, tmp_path, **others) as (url, _):
            assert url
    assert (tmp_path / "rooms.db").exists()


def start_of(framework: str) -> tuple[str, str, str]:
    """Return what a reader installs for a shop, the name of its file, and the command that starts it."""
    if framework == "FastAPI":
        install, _, command = sample("sh", "hypercorn").partition(" && ")
        return install, "shop.py", command
    how = re.search(rf"^`(\S+)` in {framework}, after `([^`]+)`: `([^`]+)`$", README, re.MULTILINE)
    return how[2], how[1], how[3]


def test_a_reader_of_the_express_shop_installs_what_its_test_has() -> None:
    install, _, _ = start_of("Express")
    assert install.split()[:2] == ["npm", "install"]
    assert set(install.split()[2:]) == set(
        json.loads((EXAMPLES / "package.json").read_text())["dependencies"]
    )


@pytest.mark.parametrize(
    ("framework", "language"), [("FastAPI", "python"), ("Django", "python"), ("Express", "js")]
)
def test_the_shop_tells_its_customer(
    framework: str,
    language: str,
    server: Server,
    chromium: "Browser",
    curl: None,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    _, file, command = start_of(framework)
    if framework == "Express":
        (tmp_path / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
    else:
        pytest.importorskip(framework.lower())
    shop = sample(language, f"from {framework.lower()}" if language == "python" else "express")
    (tmp_path / file).write_text(server.at_its_address(shop))
    (tmp_path / "page.html").write_text(server.at_its_address(sample("html", "greenroom.js")))

    with running(f"exec {server.at_its_address(command)}", tmp_path, **server.secrets) as (address, _):
        visitor = chromium.new_context().new_page()
        visitor.set_default_timeout(PATIENCE_SECONDS * 1000)
        with visitor.expect_console_message(lambda message: message.text == "7 hello"):
            visitor.goto(address)

        def wait_for_order(status: str) -> None:
            shown = "(text) => document.querySelector('#order').textContent === text"
            visitor.wait_for_function(shown, arg=f"Order 5: {status}")

        if framework == "FastAPI":
            order = sample("sh", "curl -X POST").replace("localhost:5000", address.removeprefix("http://"))
            assert json.loads(finish(order, tmp_path)) == {"order_id": "5", "status": "shipped"}
            wait_for_order("shipped")

        any_client = server.at_its_address(sample("sh", "Idempotency-Key"))
        publish, answer, receive = re.fullmatch(
            r"(.*)\n# (\{.*\}).*?\n(.*)\n", any_client, re.DOTALL
        ).groups()
        # The server knows the key of an earlier shop.
        status = f"delivered by {framework}"
        publish = publish.replace("delivered", status)
        with run(f"exec {receive}", tmp_path, **server.secrets) as stream:
            read_until(stream, re.compile(rb"\bjoined\b"))
            published = json.loads(finish(publish, tmp_path, **server.secrets))
            read_until(stream, re.compile(status.encode()))
        wait_for_order(status)
        if framework == "FastAPI":
            assert published == json.loads(answer) | {"epoch": published["epoch"]}
        visitor.context.close()


def test_a_program_and_the_terminal_talk(server: Server, tmp_path: Path) -> None:
    where = {"GREENROOM_URL": server.url, **server.secrets}
    [mint] = re.findall(r"`(greenroom token [^`]+)`", README)
    token = finish(mint, tmp_path, **where).strip()
    client = indent(server.at_its_address(sample("python", "fetch_token")), "    ")
    for start in ("import trio; trio.run(main)", "import asyncio; asyncio.run(main())"):
        fetch = "async def fetch_token():\n    return os.environ['TOKEN']"
        (tmp_path / "program.py").write_text(f"import os\n{fetch}\nasync def main():\n{client}\n{start}\n")
        with run("exec python program.py", tmp_path, TOKEN=token) as program:
            read_until(program, re.compile(rb"'hello'"))

    [line] = re.findall(r"^\*\*At the terminal\*\*.*?\n\n", README, re.MULTILINE | re.DOTALL)
    send, tail, *others = re.findall(r"`(greenroom [^`]+)`", line)
    for command in (send, *others):
        finish(command, tmp_path, **where)
    with run(f"exec {tail}", tmp_path, **where) as process:
        read_until(process, re.compile(rb"cli.*hello"))


def test_a_program_with_its_rooms_inside(server: Server, curl: None, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(sample("python", "make_app").replace("8000", "0"))
    with running("exec python app.py", tmp_path, **server.secrets) as (address, _):
        order = sample("sh", "curl -X POST").replace("localhost:5000", address.removeprefix("http://"))
        assert json.loads(finish(order, tmp_path)) == {"order_id": "5"}
        with Publisher(address, server.secrets["GREENROOM_API_KEY"]) as publisher:
            [message] = publisher.history("user_7").messages
    assert (message["order_id"], message["status"]) == ("5", "shipped")
