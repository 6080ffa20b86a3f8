"""How each baseline is started, and what it needs."""

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType

from bench.baselines.build import compiled, installed
from bench.errors import BenchError
from bench.load.dialect import NATIVE, Dialect
from bench.spec import MAX_TEXT, Credentials, ServerSpec

_SOCKETIO = Dialect(
    target="/socket.io/?EIO=4&transport=websocket&room={room}&token={token}",
    hello="40",
    chat_before='42["chat",{"text":"',
    chat_after='"}]',
    ping='42["ping"]',
)
"""Engine.IO's packet type 4 is a message; Socket.IO's 0 in it connects and 2 is an event."""


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
    }
)
"""Each raises BenchError if something it needs is missing."""
