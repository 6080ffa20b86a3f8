"""Which servers can be measured, and how each is started. All speak Greenroom's `chat` over `/ws/{room}`."""

import secrets
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType

import attrs

from bench.errors import BenchError


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
    """How to start a server. `{port}` in arguments and environment stands for its port.

    It is up when `ready_path` answers 200.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    ready_path: str


def _greenroom(credentials: Credentials) -> ServerSpec:
    return ServerSpec(
        name="greenroom",
        arguments=(sys.executable, "-m", "broker", "serve", "--port", "{port}"),
        environment={
            "GREENROOM_SECRET": credentials.secret,
            "GREENROOM_API_KEY": credentials.api_key,
            # The load comes from one address, as fast as it is answered.
            "GREENROOM_LIMITS__MESSAGES_PER_SECOND": "1000000",
            "GREENROOM_LIMITS__MESSAGES_BURST": "1000000",
            "GREENROOM_LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
            "GREENROOM_LOG__LEVEL": "warning",
        },
        ready_path="/health",
    )


def _fastapi_seed(credentials: Credentials) -> ServerSpec:
    _require("fastapi_seed", "fastapi", "uvicorn", "uvloop", "websockets", "jose")
    return ServerSpec(
        name="fastapi_seed",
        arguments=(sys.executable, "-m", "bench.baselines.fastapi_seed"),
        environment={"PORT": "{port}", "SECRET_KEY": credentials.secret},
        ready_path="/openapi.json",
    )


SERVERS: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {"greenroom": _greenroom, "fastapi_seed": _fastapi_seed}
)
"""By the name that `--server` and `--against` take. Each raises BenchError if a package it needs is missing."""


def _require(server: str, *modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise BenchError(
            f"{server} needs {', '.join(missing)}: install the extra with `pip install -e '.[bench]'`"
        )
