"""`greenroom serve`: the server, until a signal ends it."""

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from broker.cli.code_reload import CHECK, RESTARTED, load_rooms_to_reload, serve_with_reload
from broker.cli.dev import load_dev_secrets
from broker.cli.lazy import TextCommand
from broker.cli.notes import dev_notes, shell_name
from broker.cli.options import config_option
from broker.cli.serving import check_workers, serve_as_worker, serve_with_workers
from broker.cli.streams import drain_log, use_background
from broker.config.dev import with_dev_secrets
from broker.config.dev_file import DevSecrets
from broker.config.load import load_settings
from broker.config.problems import refuse
from broker.config.settings import Settings
from broker.errors import ConfigurationError
from broker.log import open_log
from broker.preflight import find_problems
from broker.process import run_server
from broker.service_manager import take_service_manager
from broker.transport.listening import authority

if TYPE_CHECKING:
    from broker.room_actors.actor import RoomActor

_LOG_SECONDS = 0.2
"""How long the notes of `--dev` wait for the log lines before them, so that the console's address is the last line."""

_HINT_OF_PORT = "; choose another port with --port (make serve PORT=8001)"


@click.command("serve", cls=TextCommand)
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="TCP port; 0 takes a free one (server.port).")
@click.option("--engine", metavar="URL", help="Where events are kept, such as memory:// (server.engine).")
@click.option("--tls-cert", metavar="FILE", help="Certificate: the port speaks TLS (server.tls_cert_file).")
@click.option("--tls-key", metavar="FILE", help="Its private key (server.tls_key_file).")
@config_option
@click.option(
    "--dev",
    is_flag=True,
    help="Make missing secrets up, and print them with the address of the console.",
)
@click.option(
    "--dev-secrets",
    "dev_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the secrets of --dev there, and not in the environment's folder; - keeps them nowhere.",
)
@click.option(
    "--rooms",
    "rooms_place",
    metavar="MODULE[:NAME]",
    help="Rooms with code of their own: the RoomActor classes of a Python module, or one of them.",
)
@click.option(
    "--reload",
    "is_reloading",
    is_flag=True,
    help="With --dev and --rooms: begin again whenever the code of the rooms changes.",
)
@click.option(CHECK, "is_check", is_flag=True, hidden=True, help="Import the rooms, and end.")
@click.option(RESTARTED, "is_restarted", is_flag=True, hidden=True, help="After a reload.")
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=256),
    default=1,
    metavar="N",
    help="Processes that share the port; more than one needs a redis:// engine.",
)
@click.option("--worker", "worker_index", type=int, hidden=True, help="Index of this worker.")
@click.option(
    "--siblings", type=click.Path(path_type=Path), hidden=True, help="Folder of the workers' sockets."
)
def command(
    host: str | None,
    port: int | None,
    engine: str | None,
    config_file: Path | None,
    *,
    tls_cert: str | None,
    tls_key: str | None,
    dev: bool,
    dev_file: Path | None,
    rooms_place: str | None,
    is_reloading: bool,
    is_check: bool,
    is_restarted: bool,
    workers: int,
    worker_index: int | None,
    siblings: Path | None,
) -> None:
    """Run the server until SIGTERM or SIGINT; a second one stops it at once.

    Exit status: 0 after a drained stop, 2 for a configuration error, 1 for anything else.
    """
    flags = {
        "server.host": host,
        "server.port": port,
        "server.engine": engine,
        "server.tls_cert_file": tls_cert,
        "server.tls_key_file": tls_key,
    }
    loaded = load_settings(file=config_file, environ=os.environ, flags=flags)
    if dev_file is not None and not dev:
        raise ConfigurationError("--dev-secrets: only with --dev")
    loaded, kept = load_dev_secrets(loaded, dev_file) if dev else (loaded, None)
    settings = loaded.settings
    refuse(find_problems(settings, dev=dev, origins=loaded.origins))
    manager = take_service_manager(os.environ, os.getpid())
    check_workers(workers, settings.server, manager)
    place = _place_to_reload(rooms_place, dev=dev, workers=workers) if is_reloading else None
    if place is None:
        rooms = _import_rooms(rooms_place, workers)
    else:
        rooms = load_rooms_to_reload(place, loaded, manager, is_check=is_check)

    def greet(address: str) -> None:
        drain_log(_LOG_SECONDS)
        program = shell_name(sys.argv[0])
        click.echo(dev_notes(loaded, address, kept=kept, config_file=config_file, program=program))

    def reload() -> Settings:
        again = load_settings(file=config_file, environ=os.environ, flags=flags)
        if dev:
            made = DevSecrets(settings.auth.secret or "", settings.http.api_key or "")
            again = with_dev_secrets(again, made)
        refuse(find_problems(again.settings, dev=dev, origins=again.origins))
        return again.settings

    use_background()
    on_listening = greet if dev and not is_restarted else _print_nothing
    log = open_log(settings.log, sys.stderr)
    try:
        if worker_index is not None:
            serve_as_worker(settings, worker_index, workers, siblings, log=log, dev=dev, reload=reload)
        elif workers > 1:
            given = {
                "--host": host,
                "--engine": engine,
                "--tls-cert": tls_cert,
                "--tls-key": tls_key,
                "--config": config_file,
            }
            arguments = _arguments_of_workers(given, dev=dev)
            serve_with_workers(
                loaded, workers, arguments, log=log, manager=manager, on_listening=on_listening
            )
        else:
            serving = partial(
                run_server, settings, log=log, manager=manager, on_listening=on_listening, rooms=rooms
            )
            serving = partial(serving, dev=dev, reload=reload)
            if place is not None:
                serve_with_reload(serving, place, loaded, log=log, manager=manager)
            else:
                trio.run(serving)
    except OSError as error:
        where = authority(settings.server.host, settings.server.port)
        hint = _HINT_OF_PORT if error.errno == errno.EADDRINUSE else ""
        click.echo(f"greenroom: cannot serve on {where}: {error.strerror or error}{hint}", err=True)
        sys.exit(1)


def _import_rooms(place: str | None, workers: int) -> "Sequence[type[RoomActor[Any]]]":
    if place is None:
        return ()
    if workers > 1:
        raise ConfigurationError("--rooms: rooms with code of their own need one process (no --workers)")
    # Most servers have no such rooms.
    from broker.cli.code_files import import_report  # noqa: PLC0415
    from broker.room_actors.classes import import_rooms  # noqa: PLC0415

    _search_working_directory()
    try:
        return import_rooms(place)
    except ConfigurationError as error:
        if error.__cause__ is not None:
            click.echo(import_report(error), err=True, nl=False)
        raise


def _place_to_reload(place: str | None, *, dev: bool, workers: int) -> str:
    """Return the place of the rooms, ready to be imported.

    :raises ConfigurationError: if they cannot be reloaded.
    """
    if not dev or place is None:
        raise ConfigurationError("--reload: only with --dev and --rooms")
    if workers > 1:
        raise ConfigurationError("--reload: one process (no --workers)")
    _search_working_directory()
    # A file that is saved twice in a second, with the same size, would be taken for the one that was compiled.
    sys.dont_write_bytecode = True
    return place


def _search_working_directory() -> None:
    """Find modules in the working directory, as `python -m` does."""
    sys.path.insert(0, str(Path.cwd()))


def _print_nothing(_address: str) -> None:
    """Print nothing: the log has the address."""


def _arguments_of_workers(given: Mapping[str, object], *, dev: bool) -> list[str]:
    arguments = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    return [*arguments, "--dev"] if dev else arguments
