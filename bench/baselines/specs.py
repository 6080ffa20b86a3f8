"""How each baseline is started, and what it needs."""

import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType

from bench.baselines.build import compiled, installed
from bench.errors import BenchError
from bench.load.dialect import NATIVE, Dialect
from bench.machine import HOST
from bench.spec import MAX_TEXT, Credentials, ServerSpec

_SOCKETIO = Dialect(
    target="/socket.io/?EIO=4&transport=websocket&room={room}&token={token}",
    hello="40",
    chat_before='42["chat",{"text":"',
    chat_after='"}]',
    ping='42["ping"]',
)
"""Engine.IO's packet type 4 is a message; Socket.IO's 0 in it connects and 2 is an event."""

_CENTRIFUGE = Dialect(
    target="/connection/websocket?room={room}&token={token}",
    hello='{"id":1,"connect":{"token":"{token}"}}\n{"id":2,"subscribe":{"channel":"bench-{room}"}}',
    welcome='"subscribe":',
    chat_before='{"id":3,"publish":{"channel":"bench-{room}","data":{"text":"',
    chat_after='"}}}',
    ping='{"id":4,"unsubscribe":{"channel":"none"}}',
    pong='"unsubscribe"',
)
"""Centrifugo's JSON protocol. It has no ping of the client, so one leaves a channel that it is not in."""


def _python(
    name: str, *modules: str, ready_path: str | None, dialect: Dialect = NATIVE
) -> Callable[[Credentials], ServerSpec]:
    def make(credentials: Credentials) -> ServerSpec:
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            raise BenchError(
                f"{name} needs {', '.join(missing)}: install the extra with `pip install -e '.[bench]'`"
            )
        return ServerSpec(
            name=name,
            arguments=(sys.executable, "-m", f"bench.baselines.{name}"),
            environment={
                "PORT": "{port}",
                "SECRET_KEY": credentials.secret,
                "TEXT_CHARACTERS": str(MAX_TEXT),
            },
            ready_path=ready_path,
            dialect=dialect,
        )

    return make


def _centrifugo(name: str, **settings: str) -> Callable[[Credentials], ServerSpec]:
    """Return the maker of a Centrifugo whose history is as long as Greenroom's; `settings` without CENTRIFUGO_."""

    def make(credentials: Credentials) -> ServerSpec:
        binary = shutil.which("centrifugo")
        if binary is None:
            raise BenchError(f"{name} needs the program centrifugo on the PATH")
        channel = {
            "ALLOW_SUBSCRIBE_FOR_CLIENT": "true",
            "ALLOW_PUBLISH_FOR_SUBSCRIBER": "true",
            "HISTORY_SIZE": "1000",
            "HISTORY_TTL": "86400s",
            "FORCE_RECOVERY": "true",
        }
        environment = {
            "HTTP_SERVER_ADDRESS": HOST,
            "HTTP_SERVER_PORT": "{port}",
            "HEALTH_ENABLED": "true",
            "LOG_LEVEL": "warn",
            "CLIENT_TOKEN_HMAC_SECRET_KEY": credentials.secret,
            # The clients of the load do not answer its own pings.
            "CLIENT_PING_INTERVAL": "3600s",
            **{f"CHANNEL_WITHOUT_NAMESPACE_{key}": value for key, value in channel.items()},
        }
        return ServerSpec(
            name=name,
            arguments=(binary,),
            environment={
                "GOMAXPROCS": "1",  # it has one core
                **{f"CENTRIFUGO_{key}": value for key, value in (environment | settings).items()},
            },
            ready_path="/health",
            dialect=_CENTRIFUGE,
        )

    return make


def _c_epoll(_credentials: Credentials) -> ServerSpec:
    return ServerSpec(
        name="c_epoll", arguments=(str(compiled("c")), "{port}"), environment={}, ready_path=None
    )


def _node_ws(credentials: Credentials) -> ServerSpec:
    return ServerSpec(
        name="node_ws",
        arguments=("node", str(installed("node") / "server.js")),
        environment={"PORT": "{port}", "SECRET_KEY": credentials.secret},
        ready_path="/",
    )


BASELINES: Mapping[str, Callable[[Credentials], ServerSpec]] = MappingProxyType(
    {
        "fastapi_seed": _python(
            "fastapi_seed", "fastapi", "uvicorn", "uvloop", "websockets", "jose", ready_path="/openapi.json"
        ),
        "websockets_broadcast": _python("websockets_broadcast", "websockets", "uvloop", ready_path="/health"),
        "picows_rooms": _python("picows_rooms", "picows", "uvloop", ready_path=None),
        "socketio_rooms": _python(
            "socketio_rooms", "socketio", "uvicorn", "uvloop", ready_path=None, dialect=_SOCKETIO
        ),
        "node_ws": _node_ws,
        "c_epoll": _c_epoll,
        "centrifugo": _centrifugo("centrifugo"),
        "centrifugo_redis": _centrifugo(
            "centrifugo_redis", ENGINE_TYPE="redis", ENGINE_REDIS_ADDRESS="{redis}"
        ),
    }
)
"""Each raises BenchError if something it needs is missing."""
