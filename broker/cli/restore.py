"""`greenroom restore`: put a copy in the place of the database of a stopped server."""

import os
from pathlib import Path

import click

from broker.cli.options import config_option
from broker.config.load import load_settings
from broker.engine.open import database_path
from broker.engine.sqlite.backup import restore


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the database if it exists.")
@config_option
def command(file: Path, config_file: Path | None, *, replace: bool) -> None:
    """Put a copy of FILE in the place of the database of server.engine (sqlite://), while no server runs on it.

    Rooms begin new epochs, so that clients learn that events may be missing.
    """
    settings = load_settings(file=config_file, environ=os.environ, flags={}).settings
    path = database_path(settings.server.engine)
    size = restore(file, path, replace=replace)
    click.echo(f"{path}: {size:,} bytes, a copy of {file}")
