"""`greenroom serve` with several workers: as one of them, and as their parent."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio

from broker.config.dev import DEV
from broker.config.load import Loaded
from broker.config.settings import ServerSettings, Settings
from broker.errors import ConfigurationError
from broker.http.nodes.siblings import Siblings, sibling_folder
from broker.log import Log
from broker.process import run_server
from broker.service_manager import ServiceManager
from broker.transport.listening import authority, scheme_of
from broker.transport.unix_socket import socket_path
from broker.watchdog import watchdog
from broker.workers.heartbeat import send_heartbeats, write_line
from broker.workers.parent_pipe import drain_without_parent
from broker.workers.port import open_shared_listeners, reserve_port
from broker.workers.supervisor import AT_ONCE_SECONDS, SERVING, Supervisor

SHARED_ENGINES = ("redis", "rediss")
"""Engines that several processes may use at once."""

STOP_SECONDS = 6.0
"""How long a worker may take beyond the drain window: the 5 s of the contract, and a second for its exit."""

FORCE_SECONDS = 1.0
"""How long after the workers are killed the parent is ended by force."""


def check_workers(count: int, server: ServerSettings, manager: ServiceManager) -> None:
    """Check that so many workers can share an engine and a port.

    :raises ConfigurationError: if not.
    """
    if count > 1 and (manager.sockets or socket_path(server.host) is not None):
        raise ConfigurationError(
            f"--workers {count}: workers share a TCP port that they open themselves; "
            "a Unix socket, or one that is handed over, is for one process"
        )
    scheme = server.engine.partition("://")[0]
    if count > 1 and scheme not in SHARED_ENGINES:
        raise ConfigurationError(
            f"--workers {count}: workers meet in a shared engine, and {scheme}:// is for one process; "
            "use --engine redis://HOST:PORT/DB, or --workers 1"
        )


def serve_as_worker(
    settings: Settings,
    index: int,
    count: int,
    folder: Path | None,
    *,
    log: Log,
    dev: bool,
    reload: Callable[[], Settings],
) -> None:
    """Serve as one of several workers, a child of `serve_with_workers`; their sockets are in `folder`."""
    siblings = None if folder is None else Siblings(folder, index, count)

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_without_parent, sys.stdin.fileno())
            parent = sys.stdout.fileno()
            silence_seconds = settings.server.worker_silence_seconds
            nursery.start_soon(partial(send_heartbeats, parent, limit_seconds=silence_seconds))
            await run_server(
                settings,
                log=log.bind(worker=index),
                on_listening=lambda _url: write_line(parent, SERVING),
                listeners=open_shared_listeners(settings.server),
                siblings=siblings,
                dev=dev,
                reload=reload,
            )
            nursery.cancel_scope.cancel()

    trio.run(serve)


def serve_with_workers(
    loaded: Loaded,
    count: int,
    arguments: Sequence[str],
    *,
    log: Log,
    manager: ServiceManager,
    on_listening: Callable[[str], None],
) -> None:
    """Supervise workers until a signal; `arguments` are those of each worker's `greenroom serve`.

    :raises OSError: if the port cannot be bound.
    :raises GreenroomError: see `Supervisor.run`.
    """
    settings = loaded.settings
    with reserve_port(settings.server) as port, sibling_folder() as folder:
        if folder is None:
            log.warning("no private folder", effect="each worker answers /metrics for itself only")
        server = msgspec.structs.replace(settings.server, port=port)
        stop_seconds = server.drain_seconds + STOP_SECONDS

        def report_serving() -> None:
            url = f"{scheme_of(server)}://{authority(server.host, port)}"
            log.info("workers listening", url=url, workers=count)
            on_listening(url)

        supervisor = Supervisor(
            lambda index: [
                *(*_this_program(), *arguments, "--port", f"{port}"),
                *("--workers", f"{count}", "--worker", f"{index}"),
                *([] if folder is None else ["--siblings", str(folder)]),
            ],
            count,
            environ=with_made_up_secrets(loaded, _environ_of_workers()),
            log=log,
            stop_seconds=stop_seconds,
            silence_seconds=server.worker_silence_seconds,
            on_serving=report_serving,
            manager=manager,
        )

        async def run() -> None:
            with watchdog(
                log,
                drain_seconds=stop_seconds + FORCE_SECONDS,
                at_once_seconds=AT_ONCE_SECONDS + FORCE_SECONDS,
            ):
                await supervisor.run()

        trio.run(run)


def _this_program() -> list[str]:
    # -P: `python -m` would search the working directory first, and run a `broker` there.
    return [sys.executable, "-P", "-m", "broker", "serve"]


def _environ_of_workers() -> dict[str, str]:
    """Return an environment in which a worker has the import path of this process, and no other."""
    ignores_variables = sys.flags.ignore_environment
    environ = {
        name: value
        for name, value in os.environ.items()
        if not (ignores_variables and name.startswith("PYTHON"))
    }
    # An empty entry would be the working directory.
    environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return environ


def with_made_up_secrets(loaded: Loaded, environ: dict[str, str]) -> dict[str, str]:
    """Add the secrets generated by `--dev`, so that all processes of this server have the same."""
    auth, http = loaded.settings.auth, loaded.settings.http
    for name, key, secret in (
        ("SECRET", "auth.secret", auth.secret),
        ("API_KEY", "http.api_key", http.api_key),
    ):
        if secret and loaded.origins[key] == DEV:
            environ[f"GREENROOM_{name}"] = secret
    return environ
