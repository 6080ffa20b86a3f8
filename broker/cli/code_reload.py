"""`greenroom serve --reload`: the code of rooms is watched, and the server begins again with each good change of it.

A change is first imported by a process of its own, while the server goes on; so code that cannot be imported disturbs
nobody. Then the server drains, and this process executes the program anew, which inherits the listening sockets: clients
that connect meanwhile wait, and none is refused.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec
import trio

from broker.cli.code_files import CodeFiles, folders_of_code, import_report
from broker.cli.serving import with_made_up_secrets
from broker.cli.streams import drain_log
from broker.config.load import Loaded
from broker.errors import ConfigurationError
from broker.log import Log
from broker.service_manager import ServiceManager
from broker.transport.listening import open_listeners

if TYPE_CHECKING:
    from broker.room_actors.actor import RoomActor

CHECK, RESTARTED = "--check-rooms", "--restarted"
"""Hidden options: import the rooms and end; serve with the sockets of the program before."""
CHECK_SECONDS = 60.0
"""How long code may take to be imported: more is a loop that does not end."""
_LOG_SECONDS = 1.0

Serving = Callable[..., Coroutine[Any, Any, bool]]


def load_rooms_to_reload(
    place: str, loaded: Loaded, manager: ServiceManager, *, is_check: bool
) -> "Sequence[type[RoomActor[Any]]]":
    """Import the classes of rooms at `place`, and check each.

    If that fails, the reason is told with the traceback, and this process waits for a change and begins again.

    With `is_check`, the process ends with status 0 if it succeeds, else with 2 and the folders of the code.
    """
    # Most servers have no such rooms.
    from broker.room_actors.classes import import_rooms, read_classes  # noqa: PLC0415

    try:
        classes = import_rooms(place)
        read_classes(classes, most_state_bytes=loaded.settings.limits.room_state_bytes)
    except ConfigurationError as error:
        click.echo(import_report(error), err=True, nl=False)
        folders = folders_of_code(place, error.__cause__)
        if is_check:
            click.echo(msgspec.json.encode([str(each) for each in folders]).decode())
            sys.exit(2)
        click.echo(f"greenroom: {error}; waiting for a change", err=True)
        files = CodeFiles(place)
        files.add(folders)
        trio.run(files.wait_change)
        _begin_again(loaded, manager, [sock.fileno() for sock in manager.sockets])
    if is_check:
        sys.exit(0)
    return classes


def serve_with_reload(
    serving: Serving, place: str, loaded: Loaded, *, log: Log, manager: ServiceManager
) -> None:
    """Run `serving` (`run_server` without its `listeners` and `until`) until a signal, and anew for each good change.

    :raises OSError: if the port cannot be bound.
    """
    held: list[int] = []

    async def wait_good_change() -> None:
        await _wait_good_change(CodeFiles(place), log)

    async def serve() -> bool:
        listeners = manager.listeners() or await open_listeners(loaded.settings.server)
        # The server closes its own.
        held.extend(os.dup(listener.socket.fileno()) for listener in listeners)
        return await serving(listeners=listeners, until=wait_good_change)

    if trio.run(serve):
        if loaded.settings.server.engine.startswith("memory:"):
            log.warning(
                "rooms begin anew", why="memory:// ends with the process; use sqlite:///PATH to keep them"
            )
        _begin_again(loaded, manager, held)


async def _wait_good_change(files: CodeFiles, log: Log) -> None:
    """Return once the code has changed and can be imported."""
    while True:
        changed = await files.wait_change()
        log.info("code changed", files=changed)
        status, printed, report = None, b"", f"the import took over {CHECK_SECONDS:g} seconds\n"
        with trio.move_on_after(CHECK_SECONDS):
            done = await trio.run_process(
                _program(CHECK), capture_stdout=True, capture_stderr=True, check=False
            )
            status, printed, report = done.returncode, done.stdout, done.stderr.decode(errors="replace")
        if status == 0:
            log.info("code reloads")
            return
        click.echo(report, err=True, nl=False)
        log.error("code not reloaded", effect="the code from before goes on; the next change is tried again")
        with suppress(msgspec.MsgspecError):
            files.add([Path(each) for each in msgspec.json.decode(printed, type=list[str])])


def _program(option: str) -> list[str]:
    """Return the command of this process, with one of the hidden options."""
    arguments = [each for each in sys.orig_argv[1:] if each != RESTARTED]
    return [sys.executable, *arguments, option]


def _begin_again(loaded: Loaded, manager: ServiceManager, descriptors: Sequence[int]) -> NoReturn:
    drain_log(_LOG_SECONDS)
    environ = with_made_up_secrets(loaded, dict(os.environ))
    environ |= manager.environ_of_successor(os.getpid(), descriptors)
    os.execve(sys.executable, _program(RESTARTED), environ)  # noqa: S606  # this program
