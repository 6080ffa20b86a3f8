"""How a server is started and spoken to."""

import secrets
from collections.abc import Mapping

import attrs

from bench.load.dialect import NATIVE, Dialect

MAX_TEXT = 65_536
"""No server cuts a text that is shorter, in bytes or characters."""


@attrs.frozen
class Credentials:
    """The secrets that servers and clients of one benchmark share."""

    secret: str
    api_key: str

    @classmethod
    def make(cls) -> "Credentials":
        """Return new random ones."""
        return cls(secret=secrets.token_urlsafe(32), api_key=secrets.token_urlsafe(32))


@attrs.frozen
class ServerSpec:
    """How to start a server.

    In arguments and environment `{port}` stands for its port, `{directory}` for an empty directory on a disk,
    `{redis}` for the URL of an empty Redis, and `{certificate}` and `{key}` for files of a new certificate, with
    which it speaks TLS; they go when the server has ended. It is up when `ready_path` answers 200; None: when it accepts
    connections.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    ready_path: str | None
    whole_path: str | None = None
    """Answers 200 once the server has also what it imports with the port open already; None: nothing."""
    dialect: Dialect = NATIVE

    @property
    def needs_disk(self) -> bool:
        """Whether it keeps files, so that it matters where its directory is."""
        return self._names("{directory}")

    @property
    def needs_redis(self) -> bool:
        """Whether it stores what it is told in a Redis."""
        return self._names("{redis}")

    @property
    def speaks_tls(self) -> bool:
        """Whether its port takes nothing but TLS."""
        return self._names("{certificate}")

    def _names(self, placeholder: str) -> bool:
        return any(placeholder in text for text in (*self.arguments, *self.environment.values()))
