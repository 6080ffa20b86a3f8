"""`greenroom serve` as a process: what it prints, how it ends, and with which status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.secrets import ENVIRON

TEST_SECONDS = 120
"""How long a test may take on a busy machine, where importing everything takes seconds."""


class Lines:
    """The lines of a pipe, as they come."""

    def __init__(self, pipe: trio.abc.ReceiveStream) -> None:
        self._pipe = pipe
        self._unread = b""

    async def next(self) -> str:
        while b"\n" not in self._unread:
            received = await self._pipe.receive_some()
            assert received, f"the process ended; its last words: {self._unread!r}"
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    async def rest(self) -> str:
        rest, self._unread = self._unread, b""
        async for received in self._pipe:
            rest += received
        return rest.decode()


@attrs.define
class Server:
    """A running `greenroom serve`."""

    process: trio.Process
    out: Lines
    log: Lines

    async def notes(self) -> dict[str, str]:
        """Return what `--dev` prints, by its name."""
        notes: dict[str, str] = {}
        while "Console" not in notes:
            name, _, value = (await self.out.next()).partition(":")
            notes[name] = value.strip()
        return notes


@asynccontextmanager
async def serve(*arguments: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Server]:
    """Start a server; what is left of it at the end is killed."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    with trio.fail_after(TEST_SECONDS):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "broker", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**others, **(environ or {})},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield Server(process, Lines(process.stdout), Lines(process.stderr))
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await process.wait()
                await trio.aclose_forcefully(process.stdout)
                await trio.aclose_forcefully(process.stderr)


async def status_of(address: str, path: str) -> int:
    """Return the status of a plain GET."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        async for received in stream:
            answer += received
    return int(answer.split()[1])


@asynccontextmanager
async def member_of_lobby(address: str, token: str) -> AsyncIterator[None]:
    """Be in a room, as a client that never answers anything."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(
            f"GET /ws/lobby?token={token} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        answer = b""
        while b'"joined"' not in answer:
            received = await stream.receive_some()
            assert received, answer
            answer += received
        yield


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_dev_prints_all_one_needs_and_ends_with_0(how: signal.Signals) -> None:
    async with serve("--dev", "--port", "0") as server:
        notes = await server.notes()
        assert await status_of(notes["Listening on"], "/health") == 200
        assert notes["Console"] == f"{notes['Listening on']}/#key={notes['API key']}"
        server.process.send_signal(how)
        assert await server.process.wait() == 0
        log = await server.log.rest()
        assert "Traceback" not in log
        assert not [secret for secret in (notes["Secret"], notes["API key"]) if secret in log]


async def test_a_server_that_is_started_again_has_the_same_secrets(tmp_path: Path) -> None:
    kept, told = tmp_path / "dev.env", []
    for _ in range(2):
        async with serve("--dev", "--port", "0", "--dev-secrets", str(kept)) as server:
            notes = await server.notes()
            assert notes["Kept in"] == str(kept)
            told.append((notes["Secret"], notes["API key"]))
    assert told[0] == told[1]
    assert f"GREENROOM_SECRET={told[0][0]}\n" in kept.read_text()
    kept.chmod(0o644)
    async with serve("--dev", "--port", "0", "--dev-secrets", str(kept)) as server:
        assert await server.process.wait() == 2
        assert await server.log.rest() == (
            f"greenroom: {kept}: is open to other users: chmod 600, or remove it for new secrets\n"
        )


async def test_without_dev_nothing_but_log_lines_is_printed() -> None:
    environ = {**ENVIRON, "GREENROOM_SERVER__DRAIN_SECONDS": "0.5"}
    async with serve("--port", "0", environ=environ) as server:
        lines = [await server.log.next()]
        while "127.0.0.1:" not in lines[-1]:
            lines.append(await server.log.next())
        server.process.send_signal(signal.SIGTERM)
        lines += (await server.log.rest()).splitlines()
        assert await server.process.wait() == 0
        assert all("event" in json.loads(line) for line in lines)
        assert not [secret for secret in ENVIRON.values() if secret in "".join(lines)]
        assert await server.out.rest() == ""


async def test_a_second_signal_ends_a_drain_at_once_with_1() -> None:
    # The client does not go away when it is asked to, so the drain would take its time.
    environ = {"GREENROOM_SERVER__DRAIN_SECONDS": "60"}
    async with serve("--dev", "--port", "0", environ=environ) as server:
        notes = await server.notes()
        token = jwt.encode({"sub": "ann"}, notes["Secret"], "HS256")
        async with member_of_lobby(notes["Listening on"], token):
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
            assert await server.process.wait() == 1


async def test_a_bad_configuration_ends_with_2() -> None:
    async with serve("--port", "70000", environ={"GREENROOM_LIMIT__X": "1"}) as server:
        assert await server.process.wait() == 2
        first, second = (await server.log.rest()).splitlines()
        assert first.startswith("greenroom: GREENROOM_LIMIT__X: no such variable; the nearest known is ")
        assert second.startswith("greenroom: --port: server.port: must be a whole number from 0 to 65535")
        assert await server.out.rest() == ""


async def test_missing_secrets_end_with_2() -> None:
    async with serve("--port", "0") as server:
        assert await server.process.wait() == 2
        first, second = (await server.log.rest()).splitlines()
        assert "GREENROOM_SECRET" in first
        assert "GREENROOM_API_KEY" in second


async def test_a_port_in_use_ends_with_1_and_one_clear_line(taken_port: int) -> None:
    async with serve("--dev", "--port", str(taken_port)) as server:
        assert await server.process.wait() == 1
        lines = (await server.log.rest()).splitlines()
        told = f"greenroom: cannot serve on 127.0.0.1:{taken_port}: "
        hint = "Address already in use; choose another port with --port (make serve PORT=8001)"
        assert [line for line in lines if line.startswith("greenroom:")] == [told + hint]
        assert "Traceback" not in "".join(lines)


async def test_a_server_of_public_key_tokens_makes_none_of_its_own(tmp_path: Path) -> None:
    public_key = Ed25519PrivateKey.generate().public_key()
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    environ = {"GREENROOM_AUTH__ALGORITHMS": "EdDSA", "GREENROOM_AUTH__PUBLIC_KEY_FILE": str(key_file)}
    async with serve("--dev", "--port", "0", environ=environ) as server:
        notes = await server.notes()
        assert await status_of(notes["Listening on"], "/health") == 200
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
        assert await server.out.rest() == ""
