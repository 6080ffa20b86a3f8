"""The Unix socket of `server.host`: its rights, what may stand at its path, and what a killed server left there."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from broker.config.settings import ServerSettings, Settings
from broker.preflight import find_host_problems
from broker.transport.listening import open_listeners
from broker.transport.unix_socket import listen_on_path


@pytest.fixture(autouse=True)
def short_paths(tmp_path, monkeypatch):
    """An address has 107 bytes, and pytest's folders have long names."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mode", ["600", "660", "666"])
async def test_its_mode_says_who_may_connect(mode):
    umask = os.umask(0o077)
    try:
        [listener] = await open_listeners(ServerSettings(host="unix:room.sock", socket_mode=mode))
    finally:
        os.umask(umask)
    async with listener:
        found = os.lstat("room.sock")
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == int(mode, 8)
        async with await trio.open_unix_socket("room.sock"), await listener.accept():
            pass


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path):
    path = tmp_path / "room.sock"
    path = path.relative_to(tmp_path)
    for _ in range(3):
        # Its file stays behind, as after kill -9.
        listen_on_path(path, 0o660, 16).close()
    with listen_on_path(path, 0o660, 16), socket.socket(socket.AF_UNIX) as client:
        client.connect("room.sock")


def test_a_socket_on_which_another_listens_is_left_alone(tmp_path):
    path = (tmp_path / "room.sock").relative_to(tmp_path)
    with listen_on_path(path, 0o660, 0) as first:
        for _ in range(3):
            with pytest.raises(OSError, match="in use") as caught:
                listen_on_path(path, 0o660, 16)
            assert caught.value.errno == errno.EADDRINUSE
        # Also where its backlog is full by now.
        first.accept()[0].close()


def make_file(path):
    path.write_text("precious")


@pytest.mark.parametrize(
    ("make", "name", "number"),
    [
        (make_file, "file", errno.EEXIST),
        (os.mkdir, "folder", errno.EEXIST),
        (lambda path: path.symlink_to("elsewhere"), "link", errno.EEXIST),
        (lambda _: None, "no/folder", errno.ENOENT),
        (lambda _: None, "x" * 200, errno.ENAMETOOLONG),
    ],
)
async def test_nothing_else_is_replaced(make, name, number, tmp_path):
    make(tmp_path / name)
    with pytest.raises(OSError, match=rf"unix:{name}") as caught:
        await open_listeners(ServerSettings(host=f"unix:{name}"))
    assert caught.value.errno == number
    assert name != "file" or (tmp_path / name).read_text() == "precious"


def test_a_check_finds_a_folder_that_is_not_there():
    def problems(host):
        return [problem.message for problem in find_host_problems(Settings(server=ServerSettings(host=host)))]

    assert problems("unix:room.sock") == []
    [reason] = problems("unix:no/room.sock")
    assert reason == "cannot serve on unix:no/room.sock: no is no directory that can be written"
    assert not list(Path().iterdir())
