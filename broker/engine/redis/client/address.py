"""Parses redis:// URLs. Pure."""

from urllib.parse import unquote

import attrs

from broker.errors import ConfigurationError

DEFAULT_PORT = 6379

ALLOWED = (
    "server.engine: redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DATABASE], rediss:// for TLS, "
    "with % codes in user and password; the password may stand in redis.password instead"
)


@attrs.frozen
class Address:
    """Host and port of one server."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@attrs.frozen
class RedisUrl:
    """The servers that share the rooms, and the login at each."""

    addresses: tuple[Address, ...]
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    database: int = 0
    is_tls: bool = False


def parse_redis_url(url: str, *, password: str | None = None) -> RedisUrl:
    """Parse a URL of scheme redis or rediss; `password` is that of every server, where the URL has none.

    :raises ConfigurationError: if it is no such URL; the message never holds the password.
    """
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    user, _, own_password = login.partition(":")
    if own_password and password:
        raise ConfigurationError(
            "server.engine: has a password, and redis.password is set as well: keep one of them"
        )
    needs_password = login and not (own_password or (user and password))
    if scheme not in {"redis", "rediss"} or needs_password or not (path or "0").isdecimal():
        raise ConfigurationError(ALLOWED)
    addresses = tuple(_parse_address(host) for host in hosts.split(","))
    if len(set(addresses)) < len(addresses):
        raise ConfigurationError("server.engine: the same server stands in it twice")
    return RedisUrl(
        addresses,
        unquote(user) or None,
        unquote(own_password) or password or None,
        int(path or "0"),
        is_tls=scheme == "rediss",
    )


def _parse_address(text: str) -> Address:
    if text.startswith("["):  # RFC 3986 section 3.2.2
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or not (port or "0").isdecimal() or not 0 < int(port or DEFAULT_PORT) < 65_536:
        raise ConfigurationError(ALLOWED)
    return Address(host, int(port or DEFAULT_PORT))
