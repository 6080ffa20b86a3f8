"""`greenroom serve`: the server, until a signal ends it."""

import os
import sys
from functools import partial
from pathlib import Path

import click
import trio

from broker.cli.notes import dev_notes
from broker.cli.options import config_option
from broker.config.check import check_settings
from broker.config.dev import with_dev_secrets
from broker.config.load import load_settings
from broker.config.problems import refuse
from broker.engine.open import ENGINE_SCHEMES
from broker.log import open_log
from broker.server import run_server


@click.command("serve")
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="TCP port; 0 takes a free one (server.port).")
@click.option("--engine", metavar="URL", help="Where events are kept, such as memory:// (server.engine).")
@config_option
@click.option(
    "--dev", is_flag=True, help="Make up secrets for this run, and print them with a console address."
)
def command(
    host: str | None, port: int | None, engine: str | None, config_file: Path | None, *, dev: bool
) -> None:
    """Run the server until SIGTERM or SIGINT; a second one stops it at once.

    Exit status: 0 after a drained stop, 2 for a configuration error, 1 for anything else.
    """
    flags = {"server.host": host, "server.port": port, "server.engine": engine}
    loaded = load_settings(file=config_file, environ=os.environ, flags=flags)
    if dev:
        loaded = with_dev_secrets(loaded)
    settings = loaded.settings
    refuse(check_settings(settings, dev=dev, engine_schemes=ENGINE_SCHEMES, origins=loaded.origins))

    def greet(address: str) -> None:
        click.echo(dev_notes(loaded, address, config_file=config_file))

    on_listening = greet if dev else _say_nothing
    log = open_log(settings.log, sys.stderr)
    try:
        trio.run(partial(run_server, settings, log=log, on_listening=on_listening, dev=dev))
    except OSError as error:
        where = f"{settings.server.host}:{settings.server.port}"
        click.echo(f"greenroom: cannot serve on {where}: {error.strerror or error}", err=True)
        sys.exit(1)


def _say_nothing(_address: str) -> None:
    """Say nothing: the log tells where the server listens."""
