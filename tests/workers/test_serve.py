"""`greenroom serve --workers`, as processes, on a real Redis."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import attrs
import httpx2
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from broker.auth.mint import mint_token
from broker.client import connect
from tests.certificates import Authority
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import RedisServer, redis
from tests.support.secrets import API_KEY, SECRET

__all__ = ["redis"]

ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.5",
}


class Eager(Random):
    """Draws short delays."""

    def uniform(self, a: float, b: float) -> float:
        return min(b, 0.1)


def token(user_id: str) -> str:
    return mint_token(secret=SECRET, algorithm="HS256", user_id=user_id, ttl_seconds=300, now=time.time())


@attrs.define(eq=False)
class Served:
    """A parent and its log."""

    process: trio.Process
    log: list[dict] = attrs.Factory(list)
    unread: bytes = b""

    async def until(self, event: str, count: int = 1) -> list[dict]:
        """Read the log until so many lines of an event have come, and return those."""
        while len(found := [line for line in self.log if line.get("event") == event]) < count:
            assert self.process.stderr is not None
            received = await self.process.stderr.receive_some()
            assert received, self.log
            *lines, self.unread = (self.unread + received).split(b"\n")
            assert all(line.startswith(b"{") for line in lines), lines
            self.log += [json.loads(line) for line in lines]
        return found

    def children(self) -> list[int]:
        # A child belongs to the thread that started it.
        files = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(word) for file in files for word in file.read_text().split()]


MODULE = (sys.executable, "-m", "broker")
SCRIPT = (str(Path(sys.executable).with_name("greenroom")),)
NO_REDIS = "redis://127.0.0.1:1/0"
"""A server does without it until it is there."""


@asynccontextmanager
async def serving(
    *arguments: str, program: tuple[str, ...] = MODULE, cwd: Path | None = None, **environ: str
) -> AsyncIterator[Served]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    with trio.fail_after(PATIENCE_SECONDS):
        process = await trio.lowlevel.open_process(
            [*program, "serve", "--port", "0", *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**others, **ENVIRON, **environ},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield Served(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await trio.aclose_forcefully(process.stdout)
                await trio.aclose_forcefully(process.stderr)


async def test_workers_are_one_server(redis: RedisServer):
    """Clients of different workers meet in a room; one worker dies, and nobody loses anything."""
    async with serving("--workers", "2", "--engine", redis.url) as served:
        (listening,) = await served.until("workers listening")
        url = listening["url"]
        assert len(served.children()) == 2
        heard: dict[str, list[str]] = {}
        async with trio.open_nursery() as nursery:

            async def listen(user: str, joined: trio.Event) -> None:
                heard[user] = []
                async with (
                    connect(url, token=token(user), random=Eager()) as client,
                    client.join("lobby") as room,
                ):
                    joined.set()
                    while len(heard[user]) < 20:
                        message = await anext(room)
                        if message["type"] == "chat":
                            heard[user].append(message["text"])

            for number in range(8):
                joined = trio.Event()
                nursery.start_soon(listen, f"user{number}", joined)
                await joined.wait()
            async with (
                connect(url, token=token("speaker"), random=Eager()) as client,
                client.join("lobby") as room,
            ):
                for number in range(20):
                    await room.chat(f"{number}")
                    if number == 10:
                        os.kill(served.children()[0], signal.SIGKILL)
        assert set(map(tuple, heard.values())) == {tuple(f"{number}" for number in range(20))}
        await served.until("listening", 3)
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0


async def test_workers_drain_when_their_parent_was_killed(redis: RedisServer):
    async with serving("--workers", "2", "--engine", redis.url) as served:
        await served.until("workers listening")
        served.process.kill()
        # Two of them, after their drain: nobody is left who would kill them.
        await served.until("stopped", 2)


async def test_dev_makes_up_secrets_once_for_all(redis: RedisServer):
    none = {"GREENROOM_SECRET": "", "GREENROOM_API_KEY": ""}
    async with serving("--dev", "--workers", "2", "--engine", redis.url, **none) as served:
        assert served.process.stdout is not None
        notes = b""
        while b"API key" not in notes or not notes.endswith(b"\n"):
            notes += await served.process.stdout.receive_some()
        assert notes.count(b"Secret:") == 1
        found = dict(line.split(":", 1) for line in notes.decode().splitlines() if ":" in line)
        user = mint_token(
            secret=found["Secret"].strip(), algorithm="HS256", user_id="ann", ttl_seconds=60, now=time.time()
        )
        url = found["Listening on"].strip()
        for _ in range(6):
            async with connect(url, token=user, reconnects=False) as client, client.join("lobby") as room:
                await room.chat("hello")
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0


@pytest.mark.parametrize("engine", ["memory://", "sqlite:///rooms.db"])
async def test_several_workers_need_a_shared_engine(engine):
    async with serving("--workers", "2", "--engine", engine) as served:
        assert await served.process.wait() == 2
        assert served.process.stderr is not None
        told = (await served.process.stderr.receive_some()).decode()
        assert told.startswith("greenroom: --workers 2: workers meet in a shared engine")
        assert "redis://" in told


async def test_one_worker_is_the_server_itself():
    async with serving("--workers", "1") as served:
        await served.until("listening")
        assert served.children() == []
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0


async def test_a_port_in_use_ends_with_1_and_one_clear_line(redis: RedisServer):
    arguments = ("--port", f"{redis.port}", "--workers", "2", "--engine", redis.url)
    async with serving(*arguments) as served:
        assert await served.process.wait() == 1
        assert served.process.stderr is not None
        told = (await served.process.stderr.receive_some()).decode()
        assert (
            told
            == f"greenroom: cannot serve on 127.0.0.1:{redis.port}: Address already in use; choose another port with --port (make serve PORT=8001)\n"
        )


async def test_a_worker_that_stands_still_is_killed_and_started_again():
    silence = {"GREENROOM_SERVER__WORKER_SILENCE_SECONDS": "5"}
    async with serving("--workers", "2", "--engine", NO_REDIS, **silence) as served:
        await served.until("workers listening")
        # A worker tells its parent before its log is written: stopped in between, it would never write this line.
        await served.until("listening", 2)
        (first, _) = served.children()
        os.kill(first, signal.SIGSTOP)
        await served.until("worker stands still")
        await served.until("listening", 3)
        assert first not in served.children()
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0


async def test_a_hangup_ends_neither_parent_nor_worker_and_renews_the_certificate(tmp_path):
    authority = Authority(tmp_path)
    pair, renewed = authority.issue("first"), authority.issue("renewed")
    files = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    async with serving("--workers", "2", "--engine", NO_REDIS, *files) as served:
        (listening,) = await served.until("workers listening")
        assert listening["url"].startswith("https://127.0.0.1:")
        async with httpx2.AsyncClient(verify=authority.client_context()) as http:
            assert (await http.get(f"{listening['url']}/health")).status_code == 200
        for name in ("key", "certificate"):
            getattr(renewed, name).replace(getattr(pair, name))
        children = served.children()
        for pid in (served.process.pid, *children):
            os.kill(pid, signal.SIGHUP)
        await served.until("hangup passed on", 1)
        await served.until("configuration reloaded", 2)
        await served.until("certificate loaded", 4)
        assert served.children() == children
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0


def names_of_modules() -> set[str]:
    """Return the top-level names of all that a server imports, whether it comes with Python or not."""
    modules = "broker.__main__, broker.cli.serve, broker.http.app, broker.http.hosting.serving, broker.transport.slow_path"
    code = f"import sys, importlib.metadata, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()} - {"__main__"}


@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["greenroom", "python -m broker"])
@pytest.mark.parametrize("python_path", [None, ""], ids=["", "an empty PYTHONPATH"])
async def test_nothing_in_the_working_directory_is_run(tmp_path, program, python_path):
    names = names_of_modules()
    assert {"broker", "actors", "trio", "json"} <= names
    if program == MODULE:
        # Python itself looks there for these before it runs anything of ours.
        names -= {"broker", *sys.stdlib_module_names}
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open({name + '.ran'!r}, 'w').close()")
    environ = {} if python_path is None else {"PYTHONPATH": python_path}
    arguments = ("--workers", "2", "--engine", NO_REDIS)
    async with serving(*arguments, program=program, cwd=tmp_path, **environ) as served:
        await served.until("workers listening")
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0
    assert list(tmp_path.glob("*.ran")) == []


def families_of(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, sample.labels["node"], sample.labels["worker"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def first_page(url: str) -> str:
    """Return the metrics by the first worker that answers: the kernel deals connections to one that stands still too."""
    pages: list[str] = []
    async with (
        httpx2.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            pages.append((await http.get("/metrics")).text)
            nursery.cancel_scope.cancel()

        for _ in range(32):
            nursery.start_soon(ask)
    return pages[0]


async def test_one_scrape_tells_of_all_workers_and_leaves_out_one_that_stands_still():
    environ = {
        "GREENROOM_SERVER__NODE_NAME": "web1",
        # It is not to be killed meanwhile.
        "GREENROOM_SERVER__WORKER_SILENCE_SECONDS": "600",
    }
    async with serving("--workers", "3", "--engine", NO_REDIS, **environ) as served:
        (listening,) = await served.until("workers listening")
        async with httpx2.AsyncClient(base_url=listening["url"], timeout=PATIENCE_SECONDS) as http:
            # Whichever worker takes the connection, the answer is the same.
            for _ in range(6):
                page = (await http.get("/metrics", headers={"Connection": "close"})).text
                metrics = families_of(page)
                assert {key[1:] for key in metrics} == {("web1", "0"), ("web1", "1"), ("web1", "2")}
                memory = {metrics["process_resident_memory_bytes", "web1", f"{index}"] for index in range(3)}
                assert len(memory) > 1
                assert page.count("# TYPE greenroom_connections gauge") == 1
            for index in range(3):
                page = (await http.get("/metrics", params={"worker": index})).text
                assert {key[2] for key in families_of(page)} == {f"{index}"}
            assert (await http.get("/metrics?worker=3")).status_code == 404
            assert (await http.get("/metrics?worker=x")).status_code == 400
        os.kill(served.children()[0], signal.SIGSTOP)
        metrics = families_of(await first_page(listening["url"]))
        up = [metrics["greenroom_worker_up", "web1", f"{index}"] for index in range(3)]
        assert sorted(up) == [0, 1, 1]
        assert ("greenroom_connections", "web1", f"{up.index(0)}") not in metrics
        os.kill(served.children()[0], signal.SIGCONT)
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0
