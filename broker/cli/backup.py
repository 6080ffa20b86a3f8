"""`greenroom backup`: copy the database of a server that runs or is stopped."""

import os
from pathlib import Path

import click

from broker.cli.options import config_option
from broker.config.load import load_settings
from broker.engine.open import database_path
from broker.engine.sqlite.backup import back_up


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
@config_option
def command(file: Path, config_file: Path | None, *, replace: bool) -> None:
    """Copy the database of server.engine (sqlite://) to FILE, as of one moment; the server goes on."""
    settings = load_settings(file=config_file, environ=os.environ, flags={}).settings
    path = database_path(settings.server.engine)
    size = back_up(path, file, replace=replace)
    click.echo(f"{file}: {size:,} bytes, a copy of {path}")
