"""Options that several commands share."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="GREENROOM_CONFIG",
    metavar="FILE",
    help="TOML file of settings (GREENROOM_CONFIG).",
)
