"""What the commands that talk to a running server share: where it is, and who they are."""

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import trio

from broker.cli.token import make_token
from broker.client.link import LinkClosedError
from broker.config.load import load_settings

C = TypeVar("C", bound=Callable[..., object])

CLI_USER = "cli"
TOKEN_SECONDS = 3600.0

url_option = click.option(
    "--url",
    envvar="GREENROOM_URL",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The server (GREENROOM_URL).",
)
token_option = click.option(
    "--token",
    envvar="GREENROOM_TOKEN",
    metavar="JWT",
    help="A client token (GREENROOM_TOKEN). Without one, it is made with GREENROOM_SECRET.",
)


def find_token(token: str | None) -> str:
    """Return the token given, or one of our own making.

    :raises ConfigurationError: if there is neither a token nor a secret to make one with.
    """
    if token:
        return token
    file = os.environ.get("GREENROOM_CONFIG")
    loaded = load_settings(file=Path(file) if file else None, environ=os.environ, flags={})
    auth = loaded.settings.auth
    return make_token(auth, CLI_USER, ttl_seconds=TOKEN_SECONDS)


def run_remote(command: Callable[[], Awaitable[int]]) -> None:
    """Run a command against a server and exit with its status; 1 with one line if the server refuses."""
    try:
        status = trio.run(command)
    except LinkClosedError as error:
        click.echo(f"greenroom: {error}", err=True)
        status = 1
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        # What a shell expects of a program that SIGINT ended.
        status = 130
    sys.exit(status)
