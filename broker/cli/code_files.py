"""The files of the code of rooms, and their changes."""

import os
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import trio

EVERY_SECONDS = 0.3
"""Interval between two looks at the files; a change counts once the files were the same twice."""

OURS = {"broker", "importlib"}
"""Packages whose frames are left out of the traceback of an import."""

Files = Mapping[str, tuple[int, int]]
"""Python files, with the time in nanoseconds of their last change, and their size."""


def folders_of_code(place: str, error: BaseException | None = None) -> set[Path]:
    """Return the folders of the modules that the code at `place` (as in `--rooms`) has imported.

    These are the working directory, and the folders of modules below it or of the same package, without what is installed.
    With the `error` of an import, the files are among them that it names.
    """
    here, package = Path.cwd(), place.partition(":")[0].partition(".")[0]
    found = {here}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (name.partition(".")[0] == package or Path(file).is_relative_to(here)):
            found.add(Path(file).parent)
    for file in () if error is None else _files_of(error):
        if Path(file).is_relative_to(here):
            found.add(Path(file).parent)
    return {folder for folder in found if not _is_installed(folder)}


def _files_of(error: BaseException) -> Iterator[str]:
    if isinstance(error, SyntaxError) and error.filename:
        yield error.filename
    for frame in traceback.extract_tb(error.__traceback__):
        yield frame.filename


def _is_installed(folder: Path) -> bool:
    return folder.is_relative_to(sysconfig.get_path("stdlib")) or not {
        "site-packages",
        "dist-packages",
    }.isdisjoint(folder.parts)


def read_files(folders: Collection[Path]) -> Files:
    """Return the Python files in `folders`; blocks. Those that cannot be read are left out."""
    found = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    with suppress(OSError):
                        status = entry.stat()
                        found[entry.path] = status.st_mtime_ns, status.st_size
    return found


def changed_files(before: Files, after: Files) -> list[str]:
    """Return the names of the files that differ."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


class CodeFiles:
    """The files in the folders of the code at `place`, as they were when a change of them was last told."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._folders: set[Path] = set()
        self._files: dict[str, tuple[int, int]] = {}
        self._last_look: Files = {}
        self.add(folders_of_code(place))

    def add(self, folders: Collection[Path]) -> None:
        """Watch more folders, from their present files on; blocks."""
        new = set(folders) - self._folders
        self._folders |= new
        self._files |= read_files(new)

    def look(self) -> list[str] | None:
        """Return the names of files that have changed, once; None if there is none, or they are not at rest. Blocks."""
        # Modules may have been imported meanwhile.
        self.add(folders_of_code(self._place))
        before, self._last_look = self._last_look, read_files(self._folders)
        changed = changed_files(self._files, self._last_look)
        if not changed or before != self._last_look:
            return None
        self._files = dict(self._last_look)
        return changed

    async def wait_change(self) -> list[str]:
        """Wait until files change, and then until they have come to rest; returns their names."""
        while True:
            await trio.sleep(EVERY_SECONDS)
            changed = await trio.to_thread.run_sync(self.look, abandon_on_cancel=True)
            if changed is not None:
                return changed


def import_report(error: BaseException) -> str:
    """Return the traceback of the exception for which code could not be imported, from its first frame on."""
    cause = error.__cause__
    if cause is None:
        return f"{error}\n"
    frame: TracebackType | None = cause.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(cause), cause, frame))
