"""Redis' errors as ours: the one edge where they are mapped. Pure."""

import re
import reprlib

import hiredis

from broker.errors import ConfigurationError, EngineTrouble, EngineUnavailableError

_CONFIGURATION = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid DB index", "ERR DB index", "ERR AUTH")
"""How an answer to the greeting begins when trying again will not help."""

_REPLICA = ("READONLY", "MASTERDOWN")
_ELSEWHERE = (*_REPLICA, "LOADING", "NOAUTH", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS")
# Redis 6.2 tells of an error inside a script as "ERR Error running script (...): @user_script: 14: -READONLY ...".
_CODE = re.compile(rf"(?:^|-)({'|'.join(_ELSEWHERE)})\b")

MOST_CHARACTERS = 200
"""How much of a peer's text goes into an error and the log."""


class RefusedByRedisError(EngineUnavailableError):
    """The server answered a request with an error; see the properties for what that says of the server."""

    def __init__(self, text: str) -> None:
        trouble = EngineTrouble.FULL if "OOM" in text else EngineTrouble.REFUSED
        super().__init__(f"redis refuses: {text[:MOST_CHARACTERS]}", trouble=trouble)
        code = _CODE.search(text)
        self._code = code.group(1) if code else ""
        self._is_of_no_script = text.startswith("ERR ") and "user_script" not in text

    @property
    def is_elsewhere(self) -> bool:
        """Whether a new connection may lead to a server that can: the kind of refusal that a failover leaves behind.

        What the codes do not name and no script of ours raised comes from a proxy, or from another kind of server.
        """
        return bool(self._code) or self._is_of_no_script

    @property
    def is_of_replica(self) -> bool:
        """Whether it comes from a server that was demoted."""
        return self._code in _REPLICA

    @property
    def leaves_reads(self) -> bool:
        """Whether the same connection can still be read from."""
        return self._code == "READONLY"


class ScriptMissingError(EngineUnavailableError):
    """The server does not know a script by its hash; nothing was done."""


def lost(reason: str) -> EngineUnavailableError:
    """Return what is told of requests whose connection is gone."""
    return unreachable(f"redis: {reason}")


def unreachable(detail: str) -> EngineUnavailableError:
    """Return what is told while there is no connection."""
    return EngineUnavailableError(detail, trouble=EngineTrouble.UNREACHABLE)


def refused(error: hiredis.ReplyError) -> RefusedByRedisError | ScriptMissingError:
    """Return what is told when Redis refuses a request: it is out of memory, read-only or still loading."""
    text = str(error)
    return (
        ScriptMissingError("redis: script missing")
        if text.startswith("NOSCRIPT")
        else RefusedByRedisError(text)
    )


def refused_greeting(server: str, text: str) -> ConfigurationError | EngineUnavailableError:
    """Return what a refused greeting means: the configuration is wrong, or the server not ready yet."""
    if "unknown command" in text.lower():
        return too_old(server, "one without HELLO")
    if text.startswith(_CONFIGURATION):
        return ConfigurationError(
            f"server.engine: {server} refuses the login or the database: {text[:MOST_CHARACTERS]}"
        )
    return RefusedByRedisError(text)


def too_old(server: str, version: str) -> ConfigurationError:
    """Return what is told of a server that cannot serve because of its version."""
    return ConfigurationError(
        f"server.engine: {server} is {version}; Redis {LEAST_VERSION_TEXT} or later, or Valkey, is needed"
    )


def shown(reply: object) -> str:
    """Return a reply in few characters, whatever it is."""
    return reprlib.repr(reply)[:MOST_CHARACTERS]


LEAST_VERSION = (6, 2)
"""HELLO and logins by user came with 6.0; 6.2 is the oldest with security fixes."""

LEAST_VERSION_TEXT = ".".join(map(str, LEAST_VERSION))
