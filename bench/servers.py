"""Which servers can be measured, and how each is started. All speak Greenroom's `chat` over `/ws/{room}`."""

import secrets
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType

import attrs

from bench.errors import BenchError
from bench.load.dialect import NATIVE, Dialect


@attrs.frozen
class Credentials:
    """What servers and clients of one benchmark share."""

    secret: str
    api_key: str

    @classmethod
    def make(cls) -> "Credentials":
        """Return new random ones."""
        return cls(secret=secrets.token_urlsafe(32), api_key=secrets.token_urlsafe(32))


@attrs.frozen
class ServerSpec:
    """How to start a server.

    In arguments and environment `{port}` stands for its port, and `{directory}` for an empty directory on
    a disk, which goes when the server has ended. It is up when `ready_path` answers 200.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    ready_path: str
    dialect: Dialect = NATIVE

    @property
    def needs_disk(self) -> bool:
        """Whether it keeps files, so that it matters where its directory is."""
        return any("{directory}" in text for text in (*self.arguments, *self.environment.values()))


def _greenroom(name: str, **settings: str) -> Callable[[Credentials], ServerSpec]:
    """Return the maker of a Greenroom; `settings` are variables without their GREENROOM_."""

    def make(credentials: Credentials) -> ServerSpec:
        environment = {
            "SECRET": credentials.secret,
            "API_KEY": credentials.api_key,
            # The load comes from one address, as fast as it is answered.
            "LIMITS__MESSAGES_PER_SECOND": "1000000",
            "LIMITS__MESSAGES_BURST": "1000000",
            "LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
            "LOG__LEVEL": "warning",
        }
        return ServerSpec(
            name=name,
            arguments=(sys.executable, "-m", "broker", "serve", "--port", "{port}"),
            environment={f"GREENROOM_{key}": value for key, value in (environment | settings).items()},
            ready_path="/health",
        )

    return make


def _sqlite(name: str, synchronous: str) -> Callable[[Credentials], ServerSpec]:
    return _greenroom(name, SERVER__ENGINE="sqlite:///{directory}/rooms.db", SQLITE__SYNCHRONOUS=synchronous)


def _fastapi_seed(credentials: Credentials) -> ServerSpec:
    _require("fastapi_seed", "fastapi", "uvicorn", "uvloop", "websockets", "jose")
    return ServerSpec(
        name="fastapi_seed",
        arguments=(sys.executable, "-m", "bench.baselines.fastapi_seed"),
        environment={"PORT": "{port}", "SECRET_KEY": credentials.secret},
        ready_path="/openapi.json",
    )


GREENROOMS: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {
        "greenroom": _greenroom("greenroom"),
        "greenroom_without_history": _greenroom("greenroom_without_history", HISTORY__MESSAGES="0"),
        "greenroom_sqlite": _sqlite("greenroom_sqlite", "full"),
        "greenroom_sqlite_normal": _sqlite("greenroom_sqlite_normal", "normal"),
        "greenroom_sqlite_off": _sqlite("greenroom_sqlite_off", "off"),
    }
)
"""Those that speak all of Greenroom's protocol: with its memory engine if the name does not say otherwise."""

SERVERS: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {**GREENROOMS, "fastapi_seed": _fastapi_seed}
)
"""By the name that `--server` and `--against` take. Each raises BenchError if a package it needs is missing."""


def _require(server: str, *modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise BenchError(
            f"{server} needs {', '.join(missing)}: install the extra with `pip install -e '.[bench]'`"
        )
