"""TLS of the port: the credentials for new connections, which can be renewed while it runs."""

from pathlib import Path
from typing import NoReturn, TypeAlias

import trio

from broker.config.settings import ServerSettings
from broker.errors import ConfigurationError
from broker.log import Log
from broker.model import WallClock
from broker.transport.byte_stream import ByteStream
from broker.transport.tls.credentials import Credentials, load_credentials, shown_time
from broker.transport.tls.handshake import shake_hands
from broker.transport.tls.stream import TlsBuffers, TlsByteStream

POLL_SECONDS = 10.0
"""How often the files are looked at."""

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file its time, number and size; None if there is none."""


class PortTls:
    """Shakes hands with the certificate of the files; open connections keep theirs."""

    def __init__(
        self, server: ServerSettings, credentials: Credentials, log: Log, wall_clock: WallClock
    ) -> None:
        self._server = server
        self._log = log
        self._wall_clock = wall_clock
        self._buffers = TlsBuffers()
        self._stamp: _Stamp = ()
        self._credentials = credentials
        self._log_loaded()

    def read_expiry(self) -> float:
        """Return until when the certificate of new connections is valid, in Unix seconds."""
        return self._credentials.expires_at

    async def shake_hands(self, stream: ByteStream) -> TlsByteStream | None:
        """See `broker.transport.tls.handshake`."""
        timeout_seconds = self._server.tls_handshake_seconds
        return await shake_hands(
            stream, self._credentials.context, self._buffers, timeout_seconds=timeout_seconds
        )

    def reload(self, server: ServerSettings) -> None:
        """Read the files that `server` names, blocking, and take them for new connections.

        :raises ConfigurationError: if they cannot be used; nothing is changed then.
        """
        # Before they are read, so that a change amid the reading is seen later.
        stamp = _stamp_of(server)
        credentials = load_credentials(server)
        if credentials is None:
            raise ConfigurationError("server.tls_cert_file: only a restart ends TLS")
        self._server, self._stamp, self._credentials = server, stamp, credentials
        self._log_loaded()

    async def run(self) -> NoReturn:
        """Look at the files again and again, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Take the files if they have changed since the last look. Those that cannot be used are logged once."""
        server, before = self._server, self._stamp
        stamp = await self._read_stamp(server)
        if stamp == before or server is not self._server:
            return
        self._stamp = stamp
        if not before:
            # The first look: they were loaded a moment ago.
            return
        try:
            credentials = await trio.to_thread.run_sync(load_credentials, server, abandon_on_cancel=True)
        except ConfigurationError as error:
            in_use_until = shown_time(self.read_expiry())
            self._log.error("certificate not renewed", problem=str(error), in_use_until=in_use_until)
            return
        if credentials is not None and server is self._server:
            self._credentials = credentials
            self._log_loaded()

    async def _read_stamp(self, server: ServerSettings) -> _Stamp:
        # In a thread, as a file may be on a file system that stands still.
        return await trio.to_thread.run_sync(_stamp_of, server, abandon_on_cancel=True)

    def _log_loaded(self) -> None:
        warning = self._credentials.warning(self._wall_clock())
        if warning is None:
            self._log.info("certificate loaded", expires_at=shown_time(self.read_expiry()))
        else:
            self._log.warning("certificate not valid", reason=warning)


def _stamp_of(server: ServerSettings) -> _Stamp:
    return tuple(
        _stat(name)
        for name in (server.tls_cert_file, server.tls_key_file, server.tls_client_ca_file)
        if name is not None
    )


def _stat(name: str) -> tuple[int, int, int] | None:
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
