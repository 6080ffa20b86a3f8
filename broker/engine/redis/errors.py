"""Redis' errors as ours: the one edge where they are mapped. Pure."""

import hiredis

from broker.errors import ConfigurationError, EngineUnavailableError

_CONFIGURATION = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid DB index", "ERR DB index", "ERR AUTH")
"""How an answer to the greeting begins when trying again will not help."""


def unavailable(error: hiredis.ReplyError) -> EngineUnavailableError:
    """Return what is told when Redis refuses a request: it is out of memory, read-only or still loading."""
    return EngineUnavailableError(f"redis refuses: {error}")


def refused_greeting(server: str, error: hiredis.ReplyError) -> ConfigurationError | EngineUnavailableError:
    """Return what a refused greeting means: the configuration is wrong, or the server not ready yet."""
    text = str(error)
    if "unknown command" in text.lower():
        return too_old(server, "one without HELLO")
    if text.startswith(_CONFIGURATION):
        return ConfigurationError(f"server.engine: {server} refuses the login or the database: {text}")
    return unavailable(error)


def too_old(server: str, version: str) -> ConfigurationError:
    """Return what is told of a server that cannot serve because of its version."""
    return ConfigurationError(
        f"server.engine: {server} is {version}; Redis {LEAST_VERSION_TEXT} or later, or Valkey, is needed"
    )


LEAST_VERSION = (6, 2)
"""HELLO and logins by user came with 6.0; 6.2 is the oldest with security fixes."""

LEAST_VERSION_TEXT = ".".join(map(str, LEAST_VERSION))
