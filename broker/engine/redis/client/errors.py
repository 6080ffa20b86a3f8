"""Redis' errors as EngineUnavailableError and ConfigurationError: the one place where they are mapped. Pure."""

import re
import reprlib

import hiredis

from broker.errors import ConfigurationError, EngineTrouble, EngineUnavailableError

_CONFIGURATION = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid DB index", "ERR DB index", "ERR AUTH")
"""Beginnings of answers to the greeting after which a retry does not help."""

_REPLICA = ("READONLY", "MASTERDOWN")
_ELSEWHERE = (*_REPLICA, "LOADING", "NOAUTH", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS")
# Redis 6.2 wraps an error inside a script: "ERR Error running script (...): @user_script: 14: -READONLY ...".
_CODE = re.compile(rf"(?:^|-)({'|'.join(_ELSEWHERE)})\b")

MOST_CHARACTERS = 200
"""How much of a peer's text goes into an error and into the log."""


class RefusedByRedisError(EngineUnavailableError):
    """The server answered a request with an error; the properties say what follows for the server."""

    def __init__(self, text: str) -> None:
        trouble = EngineTrouble.FULL if "OOM" in text else EngineTrouble.REFUSED
        super().__init__(f"redis refuses: {text[:MOST_CHARACTERS]}", trouble=trouble)
        code = _CODE.search(text)
        self._code = code.group(1) if code else ""
        self._is_of_no_script = text.startswith("ERR ") and "user_script" not in text

    @property
    def is_elsewhere(self) -> bool:
        """Whether a new connection may lead to a server that can serve: such refusals follow a failover.

        An ERR that no script of the engine raised comes from a proxy, or from another kind of server.
        """
        return bool(self._code) or self._is_of_no_script

    @property
    def is_of_replica(self) -> bool:
        """Whether the server was demoted."""
        return self._code in _REPLICA

    @property
    def leaves_reads(self) -> bool:
        """Whether the same connection can still be read from."""
        return self._code == "READONLY"


class ScriptMissingError(EngineUnavailableError):
    """The server does not know a script by its hash; nothing was done."""


def connection_lost(reason: str) -> EngineUnavailableError:
    """Return the error that ends a connection."""
    return unreachable(f"redis: {reason}")


def unreachable(detail: str) -> EngineUnavailableError:
    """Return the error for requests while there is no connection."""
    return EngineUnavailableError(detail, trouble=EngineTrouble.UNREACHABLE)


def refused(error: hiredis.ReplyError) -> RefusedByRedisError | ScriptMissingError:
    """Return the error for a refused request: Redis is out of memory, read-only or still loading, for instance."""
    text = str(error)
    return (
        ScriptMissingError("redis: script missing")
        if text.startswith("NOSCRIPT")
        else RefusedByRedisError(text)
    )


def refused_greeting(server: str, text: str) -> ConfigurationError | EngineUnavailableError:
    """Return the error for a refused greeting: the configuration is wrong, or the server is not ready yet."""
    if "unknown command" in text.lower():
        return too_old(server, "one without HELLO")
    if text.startswith(_CONFIGURATION):
        return ConfigurationError(
            f"server.engine: {server} refuses the login or the database: {text[:MOST_CHARACTERS]}"
        )
    return RefusedByRedisError(text)


def too_old(server: str, version: str) -> ConfigurationError:
    """Return the error for a server whose version is too old."""
    return ConfigurationError(
        f"server.engine: {server} is {version}; Redis {LEAST_VERSION_TEXT} or later, or Valkey, is needed"
    )


def abbreviated(reply: object) -> str:
    """Return any reply in at most MOST_CHARACTERS characters."""
    return reprlib.repr(reply)[:MOST_CHARACTERS]


LEAST_VERSION = (6, 2)
"""HELLO and logins by user came with 6.0; 6.2 is the oldest with security fixes."""

LEAST_VERSION_TEXT = ".".join(map(str, LEAST_VERSION))
