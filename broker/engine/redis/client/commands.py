"""Commands as they are written: arrays of strings (RESP). Pure."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Argument: TypeAlias = str | bytes | int


class ScriptArguments(msgspec.Struct, frozen=True, gc=False):
    """The part of a command behind its script, packed: the number of keys, the keys, the arguments."""

    count: int
    packed: bytes


def pack_script_arguments(keys: Sequence[str], arguments: Sequence[Argument]) -> ScriptArguments:
    """Return the keys and arguments of a script."""
    return ScriptArguments(1 + len(keys) + len(arguments), pack_arguments(len(keys), *keys, *arguments))


def pack_command(*command: Argument) -> bytes:
    """Return a command as it is written."""
    return b"*%d\r\n%b" % (len(command), pack_arguments(*command))


def pack_arguments(*arguments: Argument) -> bytes:
    """Return a part of a command, which begins with the number of all its arguments."""
    return b"".join(map(pack_argument, arguments))


def pack_argument(argument: Argument) -> bytes:
    """Return one argument of a command."""
    if isinstance(argument, str):
        argument = argument.encode()
    elif isinstance(argument, int):
        argument = b"%d" % argument
    return b"$%d\r\n%b\r\n" % (len(argument), argument)
