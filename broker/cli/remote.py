"""Common parts of the commands that talk to a running server: its address, credentials, signals and errors."""

import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import trio

from broker.auth.mint import make_token
from broker.cli.secret import check_secret_is_there
from broker.cli.streams import use_background
from broker.client import AddressError, ClientError, NotSentError
from broker.config.check import find_flaws
from broker.config.load import load_settings
from broker.config.problems import refuse
from broker.config.settings import Settings
from broker.errors import ConfigurationError

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


def find_token(token: str | None, *, is_hidden: bool = False) -> str:
    """Return the token given, or make one, with which one does not show in rooms if `is_hidden`.

    :raises ConfigurationError: if there is neither a token nor a secret to make one with.
    """
    if token:
        return token
    auth = _load_settings().auth
    check_secret_is_there(auth, or_else=", or give --token / GREENROOM_TOKEN")
    return make_token(auth, CLI_USER, ttl_seconds=TOKEN_SECONDS, now=time.time(), is_hidden=is_hidden)


def find_api_key() -> str:
    """Return the API key.

    :raises ConfigurationError: if it is not set.
    """
    key = _load_settings().http.api_key
    if not key:
        raise ConfigurationError("http.api_key: not set; put the server's into GREENROOM_API_KEY")
    return key


def _load_settings() -> Settings:
    file = os.environ.get("GREENROOM_CONFIG")
    loaded = load_settings(file=Path(file) if file else None, environ=os.environ, flags={})
    refuse(find_flaws(loaded.settings, origins=loaded.origins))
    return loaded.settings


def run_remote(command: Callable[[], Awaitable[int]]) -> None:
    """Run a command against a server, or a client, and exit with its status; 1 with one line if the server refuses.

    SIGINT and SIGTERM end it at once, with the status that a shell gives for them.
    """
    use_background(with_output=False)
    sys.exit(trio.run(_run_until_signal, command))


async def _run_until_signal(command: Callable[[], Awaitable[int]]) -> int:
    # A KeyboardInterrupt can be raised in a callback, where Python drops it, so signals are received instead.
    status = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def handle_signals() -> None:
                nonlocal status
                status = 128 + await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(handle_signals)
            status = await _run(command)
            nursery.cancel_scope.cancel()
    return status


def usage_error(error: NotSentError) -> ConfigurationError:
    """Return the usage error for an invalid option or variable, before anything was sent."""
    return ConfigurationError(f"--url: {error}" if isinstance(error, AddressError) else str(error))


async def _run(command: Callable[[], Awaitable[int]]) -> int:
    try:
        return await command()
    except NotSentError as error:
        click.echo(f"greenroom: {usage_error(error)}", err=True)
        return 2
    except ConfigurationError as error:
        click.echo(f"greenroom: {error}", err=True)
        return 2
    except ClientError as error:
        click.echo(f"greenroom: {error}", err=True)
        return 1
