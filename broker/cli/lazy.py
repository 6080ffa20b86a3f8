"""A command group that imports a command only when it is run, and turns our errors into exit statuses."""

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from broker.cli.streams import OutputError, standard_streams
from broker.errors import ConfigurationError, GreenroomError
from broker.output.text import is_utf8


class LazyGroup(click.Group):
    """Commands by name, with the line that the help shows for each.

    The command `x` is `broker.cli.x.command`. Exit statuses: 2 for a configuration error, 1 for any other; 141, without
    a message, when the reader of the output is gone, as for any program that SIGPIPE ends.
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

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; see click's Command.main."""
        with standard_streams():
            try:
                return super().main(*args, **extra)
            except OutputError as error:
                _end_without_output(error)
            except BaseExceptionGroup as group:
                # As a nursery wraps it.
                failed, rest = group.split(OutputError)
                if failed is None or rest is not None:
                    raise
                _end_without_output(_first_leaf(failed))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors of ours go to standard error, a line for each problem."""
        try:
            return super().invoke(ctx)
        except OutputError:
            raise
        except GreenroomError as error:
            for line in str(error).splitlines():
                click.echo(f"greenroom: {line}", err=True)
            ctx.exit(2 if isinstance(error, ConfigurationError) else 1)


class TextCommand(click.Command):
    """A command whose texts, from arguments or the environment, must be UTF-8; file names may be anything."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        :raises click.BadParameter: if a text is not UTF-8.
        """
        for parameter in self.get_params(ctx):
            name = parameter.name or ""
            value = ctx.params.get(name)
            try:
                if isinstance(value, str):
                    ctx.params[name] = _as_utf8(value)
                elif isinstance(value, tuple):
                    ctx.params[name] = tuple(map(_as_utf8, value))
            except UnicodeDecodeError:
                raise click.BadParameter("must be UTF-8", ctx, parameter) from None
        return super().invoke(ctx)


def _as_utf8(text: str) -> str:
    """Decode a text as UTF-8 in which Python found bytes that its locale lacks (PEP 383).

    :raises UnicodeDecodeError: if they are no UTF-8.
    """
    return text if is_utf8(text) else os.fsencode(text).decode()


def _first_leaf(group: BaseExceptionGroup[OutputError]) -> OutputError:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


def _end_without_output(error: OutputError) -> NoReturn:
    if not error.is_reader_gone:
        click.echo(f"greenroom: {error}", err=True)
    sys.exit(128 + signal.SIGPIPE if error.is_reader_gone else 1)
