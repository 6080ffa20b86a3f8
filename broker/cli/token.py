"""`greenroom token`: a client token, signed with the server's secret."""

import json
import os
import time
from pathlib import Path

import click

from broker.auth.mint import make_token
from broker.cli.durations import Duration
from broker.cli.lazy import TextCommand
from broker.cli.options import config_option
from broker.cli.secret import check_secret_is_there
from broker.config.check import find_flaws
from broker.config.load import load_settings
from broker.config.problems import refuse
from broker.model import Capability


@click.command("token", cls=TextCommand)
@click.option("--user", "user_id", required=True, metavar="ID", help="The user, as the sub claim.")
@click.option(
    "--room",
    "rooms",
    multiple=True,
    metavar="PATTERN",
    help="A room it may join, * is any run of characters; may be repeated. None: what the room rules allow.",
)
@click.option(
    "--can",
    multiple=True,
    type=click.Choice([str(capability) for capability in Capability]),
    help="What it may do; may be repeated. None: everything.",
)
@click.option(
    "--ttl",
    "ttl_seconds",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How long it is good for: seconds, or 90s, 15m, 1h30m, 7d.",
)
@click.option(
    "--info",
    "info_json",
    metavar="JSON",
    help='What the other members of its rooms are shown, such as {"name":"Ann"}.',
)
@click.option(
    "--auto-join",
    "auto_join",
    multiple=True,
    metavar="ROOM",
    help="A room that its connections are in from their start; may be repeated.",
)
@config_option
def command(  # noqa: PLR0917  # click passes them by name
    user_id: str,
    rooms: tuple[str, ...],
    can: tuple[str, ...],
    ttl_seconds: float,
    info_json: str | None,
    auto_join: tuple[str, ...],
    config_file: Path | None,
) -> None:
    """Print a client token.

    It is signed with auth.secret (GREENROOM_SECRET), and carries the audience and issuer that the
    configuration asks for.
    """
    loaded = load_settings(file=config_file, environ=os.environ, flags={})
    refuse(find_flaws(loaded.settings, origins=loaded.origins))
    auth = loaded.settings.auth
    check_secret_is_there(auth)
    try:
        info = None if info_json is None else json.loads(info_json)
    except (ValueError, RecursionError):
        raise click.BadParameter("not a JSON value", param_hint="--info") from None
    token = make_token(
        *(auth, user_id),
        ttl_seconds=ttl_seconds,
        now=time.time(),
        rooms=rooms or None,
        can=can or None,
        info=info,
        auto_join=auto_join or None,
    )
    click.echo(token)
