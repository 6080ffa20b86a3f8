"""How `greenroom serve` serves: in this process, or in several workers that this one looks after."""

import os
import sys
from collections.abc import Callable, Sequence

import msgspec
import trio

from broker.config.dev import DEV
from broker.config.load import Loaded
from broker.config.settings import Settings
from broker.errors import ConfigurationError
from broker.log import Log
from broker.server import run_server, url_of
from broker.workers.lifeline import drain_without_parent
from broker.workers.port import open_shared_listeners, reserve_port
from broker.workers.supervisor import Supervisor

SHARED_ENGINES = ("redis", "rediss")
"""Engines that several processes may use at once."""

STOP_SECONDS = 7.0
"""How long a worker may take beyond the drain window: the contract's 5 s, and its end."""


def check_workers(count: int, engine: str) -> None:
    """Check that so many workers can share an engine.

    :raises ConfigurationError: if not.
    """
    scheme = engine.partition("://")[0]
    if count > 1 and scheme not in SHARED_ENGINES:
        raise ConfigurationError(
            f"--workers {count}: workers meet in a shared engine, and {scheme}:// is for one process; "
            "use --engine redis://HOST:PORT/DB, or --workers 1"
        )


def serve_as_worker(settings: Settings, index: int, *, log: Log, dev: bool) -> None:
    """Serve beside other workers, as the child of `serve_with_workers`."""

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_without_parent, sys.stdin.fileno())
            await run_server(
                settings,
                log=log.bind(worker=index),
                on_listening=_tell_parent,
                listeners=open_shared_listeners(settings.server),
                dev=dev,
            )
            nursery.cancel_scope.cancel()

    trio.run(serve)


def serve_with_workers(
    loaded: Loaded,
    count: int,
    arguments: Sequence[str],
    *,
    log: Log,
    on_listening: Callable[[str], None],
) -> None:
    """Look after workers until a signal; `arguments` are those of `greenroom serve` that each is given.

    :raises OSError: if the port cannot be had.
    :raises GreenroomError: see `Supervisor.run`.
    """
    settings = loaded.settings
    with reserve_port(settings.server) as port:
        server = msgspec.structs.replace(settings.server, port=port)

        def tell_serving() -> None:
            url = url_of(server.host, port)
            log.info("workers listening", url=url, workers=count)
            on_listening(url)

        supervisor = Supervisor(
            lambda index: [*_this_program(), *arguments, "--port", f"{port}", "--worker", f"{index}"],
            count,
            environ=_with_made_up_secrets(loaded),
            log=log,
            stop_seconds=server.drain_seconds + STOP_SECONDS,
            on_serving=tell_serving,
        )
        trio.run(supervisor.run)


def _this_program() -> list[str]:
    return [sys.executable, "-m", "broker", "serve"]


def _with_made_up_secrets(loaded: Loaded) -> dict[str, str]:
    """Return the environment, with the secrets that `--dev` has made up, so that all workers have the same."""
    auth, http = loaded.settings.auth, loaded.settings.http
    environ = dict(os.environ)
    for name, key, secret in (
        ("SECRET", "auth.secret", auth.secret),
        ("API_KEY", "http.api_key", http.api_key),
    ):
        if secret and loaded.origins[key] == DEV:
            environ[f"GREENROOM_{name}"] = secret
    return environ


def _tell_parent(_address: str) -> None:
    sys.stdout.write("serving\n")
    sys.stdout.flush()
