"""A command group that imports a command only when it is run, and turns our errors into exit statuses."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from broker.errors import ConfigurationError, GreenroomError


class LazyGroup(click.Group):
    """Commands by name, with the line that the help shows for each.

    The command `x` is `broker.cli.x.command`. Exit statuses: 2 for a configuration error, 1 for any other.
    """

    def __init__(self, *, lazy: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = lazy

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._lazy)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or return None if there is none of that name."""
        if cmd_name not in self._lazy:
            return None
        command = importlib.import_module(f"broker.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lazy.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say what went wrong on standard error, a line for each problem."""
        try:
            return super().invoke(ctx)
        except GreenroomError as error:
            for line in str(error).splitlines():
                click.echo(f"greenroom: {line}", err=True)
            ctx.exit(2 if isinstance(error, ConfigurationError) else 1)
