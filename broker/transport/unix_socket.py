"""The listening Unix socket of `server.host = "unix:PATH"`.

Its file stays when the server ends, however that ends; the next one replaces it.
"""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from broker.config.settings import UNIX_PREFIX


def socket_path(host: str) -> Path | None:
    """Return the path that a configured host names; None if it is no Unix socket."""
    return Path(host.removeprefix(UNIX_PREFIX)) if host.startswith(UNIX_PREFIX) else None


def listen_on_path(path: Path, mode: int, backlog: int) -> socket.socket:
    """Listen on a new socket at `path` with the given mode; a socket there on which nobody listens is replaced.

    :raises OSError: if it cannot be made, as when another process listens on it (EADDRINUSE), or `path` is something else.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        try:
            sock.bind(os.fsencode(path))
        except OSError as error:
            if error.errno is None:
                # Python's own, of a path that is longer than the system allows, or with a NUL.
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
            raise
        # Nobody can connect before `listen`.
        path.chmod(mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "it exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog must not block.
        probe.setblocking(False)
        try:
            probe.connect(os.fsencode(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
