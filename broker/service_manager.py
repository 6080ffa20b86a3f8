"""The manager that started this process, as systemd's sd_notify(3) and sd_listen_fds(3) describe it.

It is told when the server serves, that it stops, and that its event loop runs; and it may hand the server its
listening sockets. Without a manager nothing is said, and there are no sockets.
"""

import fcntl
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import suppress

import attrs
import trio

from broker.errors import ConfigurationError

FIRST_DESCRIPTOR = 3
"""The number of the first socket handed over (sd_listen_fds(3))."""

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


@attrs.frozen
class ServiceManager:
    """Made by `take_service_manager`."""

    address: str | None = None
    """The Unix datagram socket that takes the notes."""
    watchdog_seconds: float | None = None
    """Longest silence after which the manager ends this process."""
    sockets: tuple[socket.socket, ...] = ()
    """The listening sockets handed over; the caller's to close."""

    def notify_nowait(self, note: str) -> None:
        """Tell the manager; a note that it does not take is dropped."""
        if self.address is None:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            # An abstract address begins with a NUL, written as @.
            sock.sendto(
                note.encode(), self.address.replace("@", "\0", 1) if self.address[0] == "@" else self.address
            )

    async def run_heartbeat(self) -> None:
        """Tell the manager that the event loop runs, twice in each `watchdog_seconds`; at once back without those."""
        while self.watchdog_seconds is not None:
            self.notify_nowait(ALIVE)
            await trio.sleep(self.watchdog_seconds / 2)

    def listeners(self) -> list[trio.SocketListener]:
        """Return listeners on the sockets."""
        return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in self.sockets]

    def environ_of_successor(self, process_id: int, descriptors: Sequence[int]) -> dict[str, str]:
        """Return the variables with which the next program of this process has the same manager, and sockets.

        The sockets are put where that program looks for them, over whatever is there: `os.execve` must follow.
        """
        first_free = FIRST_DESCRIPTOR + len(descriptors)
        aside = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, first_free) for each in descriptors]
        for number, descriptor in enumerate(aside, FIRST_DESCRIPTOR):
            os.dup2(descriptor, number, inheritable=True)
        environ = {"LISTEN_PID": str(process_id), "LISTEN_FDS": str(len(descriptors))}
        if self.address is not None:
            environ["NOTIFY_SOCKET"] = self.address
        if self.watchdog_seconds is not None:
            environ["WATCHDOG_USEC"] = str(int(self.watchdog_seconds * 1_000_000))
        return environ


NO_MANAGER = ServiceManager()


def take_service_manager(environ: MutableMapping[str, str], process_id: int) -> ServiceManager:
    """Return the manager that the environment names, and remove it from there, so that no child speaks for this process.

    :raises ConfigurationError: if a socket handed over is no listening stream socket.
    """
    taken = {
        name: environ.pop(name, "")
        for name in (
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
        )
    }
    own = str(process_id)
    is_watched = taken["WATCHDOG_USEC"].isdecimal() and taken["WATCHDOG_PID"] in {"", own}
    count = int(taken["LISTEN_FDS"]) if taken["LISTEN_PID"] == own and taken["LISTEN_FDS"].isdecimal() else 0
    address = taken["NOTIFY_SOCKET"]
    return ServiceManager(
        address if address.startswith(("/", "@")) else None,
        (int(taken["WATCHDOG_USEC"]) / 1_000_000 or None) if is_watched else None,
        tuple(_take_socket(FIRST_DESCRIPTOR + index) for index in range(count)),
    )


def _take_socket(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigurationError(f"LISTEN_FDS: descriptor {descriptor}: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ConfigurationError(f"LISTEN_FDS: descriptor {descriptor} is no listening stream socket")
    return sock
