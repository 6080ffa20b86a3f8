"""`greenroom config`: check and show a configuration without starting a server."""

import os
import time
from pathlib import Path

import click

from broker.cli.lazy import TextCommand
from broker.cli.options import config_option
from broker.config.dev import with_dev_secrets
from broker.config.dev_file import make_dev_secrets
from broker.config.load import load_settings
from broker.config.problems import refuse
from broker.config.render import render_settings


@click.group("config")
def command() -> None:
    """Check or show the configuration."""


@command.command("check", cls=TextCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dev", is_flag=True, help="As for a server with --dev: secrets may be missing.")
def check(file: Path, *, dev: bool) -> None:
    """Check whether a server would start with FILE and the present environment.

    Ends with status 2 if not, with a line for each reason.
    """
    loaded = load_settings(file=file, environ=os.environ, flags={})
    if dev:
        loaded = with_dev_secrets(loaded, make_dev_secrets())
    # Its import takes as long as that of a server.
    from broker.preflight import find_host_problems, find_problems, find_warnings  # noqa: PLC0415

    settings, origins = loaded.settings, loaded.origins
    problems = find_problems(settings, dev=dev, origins=origins)
    if not any("server.host" in problem.place for problem in problems):
        problems += find_host_problems(settings, origins=origins)
    refuse(problems)
    for warning in find_warnings(settings, time.time()):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{file}: good")


@command.command("show", cls=TextCommand)
@config_option
def show(config_file: Path | None) -> None:
    """Print every setting with its value, its meaning and where it came from, as TOML.

    Secrets are not shown, only whether they are set.
    """
    loaded = load_settings(file=config_file, environ=os.environ, flags={})
    click.echo(render_settings(loaded), nl=False)
