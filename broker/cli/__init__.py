"""The command line: `greenroom`."""

import click

from broker.cli.lazy import LazyGroup
from broker.http.version import installed_version


def _print_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    click.echo(f"greenroom {installed_version() or '(not installed)'}")
    ctx.exit()


@click.group(
    "greenroom",
    cls=LazyGroup,
    lazy={
        "serve": "Run the server.",
        "token": "Print a client token.",
        "config": "Check or show the configuration.",
        "send": "Send a text to a room.",
        "tail": "Print the messages of a room.",
        "top": "Show the rooms of a running server.",
        "rooms": "Show a room of a running server, with the state of its code.",
        "explain": "Tell what a user may do in a room and why, and where the user is connected.",
        "webhooks": "List the queues of webhooks, and repeat what was put aside.",
        "backup": "Copy the database of a running server.",
        "restore": "Put a copy in the place of the database.",
        "conformance": "Test a client against a server that drops, drains and refuses.",
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Real-time rooms over WebSocket and HTTP."""
