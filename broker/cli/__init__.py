"""The command line: `greenroom`."""

import importlib.metadata

import click

from broker.cli.lazy import LazyGroup


def _print_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    try:
        version = importlib.metadata.version("greenroom")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"greenroom {version}")
    ctx.exit()


@click.group(
    "greenroom",
    cls=LazyGroup,
    lazy={
        "serve": "Run the server.",
        "token": "Print a client token.",
        "config": "Check or show the configuration.",
        "send": "Say a text in a room.",
        "tail": "Print what is said in a room.",
        "top": "Show the rooms of a running server.",
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
