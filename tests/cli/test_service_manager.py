"""What systemd sees of a server: when it serves and stops, that it lives, and the sockets that it hands over."""

import os
import signal
import socket
import subprocess
import sys

import pytest
import trio

from broker.errors import ConfigurationError
from broker.service_manager import ServiceManager, take_service_manager
from tests.cli.test_serve import TEST_SECONDS, serve
from tests.support.secrets import ENVIRON

GET = b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


async def get(stream):
    async with stream:
        await stream.send_all(GET)
        return b"".join([part async for part in stream])


async def test_a_server_on_a_unix_socket_tells_its_manager_what_it_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        await manager.bind("manager")
        environ = {
            **ENVIRON,
            "NOTIFY_SOCKET": str(tmp_path / "manager"),
            "WATCHDOG_USEC": "100000",
            "GREENROOM_SERVER__DRAIN_SECONDS": "0",
        }
        async with serve("--host", "unix:room.sock", environ=environ) as server:
            notes = set()
            while b"READY=1" not in notes or b"WATCHDOG=1" not in notes:
                notes.add(await manager.recv(100))
            assert (await get(await trio.open_unix_socket("room.sock"))).startswith(b"HTTP/1.1 200")
            server.process.send_signal(signal.SIGTERM)
            while await manager.recv(100) != b"STOPPING=1":
                pass
            assert await server.process.wait() == 0
            assert '"url":"unix:room.sock"' in (await server.log.rest()).replace(" ", "")


async def test_a_server_takes_the_socket_that_is_handed_over():
    with socket.create_server(("127.0.0.1", 0)) as sock, trio.fail_after(TEST_SECONDS):
        # Before the server runs: that is what activation is for.
        waiting = await trio.open_tcp_stream(*sock.getsockname())
        program = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, [sys.executable, '-m', 'broker', 'serve'])"
        )
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", program, str(sock.fileno())],
            pass_fds=[sock.fileno()],
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRON, "LISTEN_FDS": "1", "GREENROOM_SERVER__DRAIN_SECONDS": "0"},
        )
        try:
            assert (await get(waiting)).startswith(b"HTTP/1.1 200")
            process.terminate()
            assert await process.wait() == 0
        finally:
            process.kill()


def test_nothing_is_believed_that_is_for_another_process():
    environ = {
        "LISTEN_PID": "1",
        "LISTEN_FDS": "1",
        "WATCHDOG_PID": "1",
        "WATCHDOG_USEC": "1000",
        "NOTIFY_SOCKET": "elsewhere",
        "HOME": "/",
    }
    assert take_service_manager(environ, 2) == ServiceManager()
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("usec", ["", "0", "-1", "x", "1.5"])
def test_a_watchdog_without_a_time_is_none(usec):
    assert take_service_manager({"WATCHDOG_USEC": usec}, 2).watchdog_seconds is None


def test_a_descriptor_that_is_no_listening_socket_is_a_clear_error(monkeypatch):
    reader, writer = os.pipe()
    connected, other = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for descriptor in (reader, connected.detach(), datagrams.detach(), 1_000_000):
        monkeypatch.setattr("broker.service_manager.FIRST_DESCRIPTOR", descriptor)
        with pytest.raises(ConfigurationError, match=f"LISTEN_FDS: descriptor {descriptor}"):
            take_service_manager({"LISTEN_PID": "2", "LISTEN_FDS": "1"}, 2)
    os.close(writer)
    other.close()


async def test_a_manager_that_is_gone_disturbs_nobody(tmp_path):
    ServiceManager(str(tmp_path / "nobody")).notify_nowait("READY=1")
    ServiceManager("/" + "x" * 200).notify_nowait("READY=1")
    await ServiceManager().run_heartbeat()
