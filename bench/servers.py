"""Which servers can be measured, and how each is started. All speak Greenroom's `chat` over `/ws/{room}`."""

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs

from bench.baselines.specs import BASELINES
from bench.spec import MAX_TEXT, Credentials, ServerSpec


def _greenroom(
    name: str, *, ready_path: str = "/health", **settings: str
) -> Callable[[Credentials], ServerSpec]:
    """Return the maker of a Greenroom; `settings` are variables without their GREENROOM_."""

    def make(credentials: Credentials) -> ServerSpec:
        environment = {
            "SECRET": credentials.secret,
            "API_KEY": credentials.api_key,
            # The load comes from one address, as fast as it is answered.
            "LIMITS__MESSAGES_PER_SECOND": "1000000",
            "LIMITS__MESSAGES_BURST": "1000000",
            "LIMITS__USER_BYTES_PER_SECOND": "1000000000",
            "LIMITS__USER_BYTES_BURST": "1000000000",
            "LIMITS__IDS_PER_USER": "10000000",
            # Some loads have texts of many KiB; no server cuts them.
            "LIMITS__TEXT_CHARACTERS": str(MAX_TEXT),
            "LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
            "LOG__LEVEL": "warning",
        }
        return ServerSpec(
            name=name,
            arguments=(sys.executable, "-m", "broker", "serve", "--port", "{port}"),
            environment={f"GREENROOM_{key}": value for key, value in (environment | settings).items()},
            ready_path=ready_path,
            whole_path="/",
        )

    return make


def _sqlite(name: str, synchronous: str) -> Callable[[Credentials], ServerSpec]:
    return _greenroom(
        name,
        SERVER__ENGINE="sqlite:///{directory}/rooms.db",
        SQLITE__SYNCHRONOUS=synchronous,
        SQLITE__WITNESS_DIRECTORY="{directory}",
    )


def _redis(name: str) -> Callable[[Credentials], ServerSpec]:
    return _greenroom(name, SERVER__ENGINE="{redis}", ready_path="/ready")


def on_engine(spec: ServerSpec, url: str, *, drain_seconds: float) -> ServerSpec:
    """Return a Greenroom like `spec` with another engine and drain window."""
    own = {"GREENROOM_SERVER__ENGINE": url, "GREENROOM_SERVER__DRAIN_SECONDS": str(drain_seconds)}
    return attrs.evolve(spec, environment={**spec.environment, **own}, ready_path="/ready")


GREENROOMS: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {
        "greenroom": _greenroom("greenroom"),
        "greenroom_without_history": _greenroom("greenroom_without_history", HISTORY__MESSAGES="0"),
        "greenroom_deflate": _greenroom("greenroom_deflate", WEBSOCKET__COMPRESSION="true"),
        "greenroom_redis": _redis("greenroom_redis"),
        "greenroom_sqlite": _sqlite("greenroom_sqlite", "full"),
        "greenroom_sqlite_normal": _sqlite("greenroom_sqlite_normal", "normal"),
        "greenroom_sqlite_off": _sqlite("greenroom_sqlite_off", "off"),
    }
)
"""Those that speak all of Greenroom's protocol: with its memory engine if the name does not say otherwise."""

_TLS = _greenroom(
    "greenroom_tls",
    SERVER__TLS_CERT_FILE="{certificate}",
    SERVER__TLS_KEY_FILE="{key}",
)

SERVERS: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {**GREENROOMS, "greenroom_tls": _TLS, **BASELINES}
)
"""By the name that `--server` and `--against` take. Only the load in C speaks TLS. Each raises BenchError if something it needs is missing."""
