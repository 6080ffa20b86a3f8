"""Secrets that stand in files, as container platforms and service managers hand them over."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from broker.config.findings import Found
from broker.config.keys import Key, Schema
from broker.config.problems import Problem
from broker.errors import ConfigurationError

MAX_SECRET_BYTES = 65_536


@attrs.frozen
class SecretFile:
    """A file that a secret was read from."""

    name: str
    origin: str
    """The origin of its name: see `broker.config.load.Loaded`."""


@attrs.define
class Contents:
    """The values of all sources, with the contents of files in the place of their names."""

    found: list[Found] = attrs.field(factory=list)
    files: dict[str, SecretFile] = attrs.field(factory=dict)
    """The files by the dotted key that each was read for."""
    problems: list[Problem] = attrs.field(factory=list)


def read_secret_files(sources: Iterable[Sequence[Found]], schema: Schema) -> Contents:
    """Read the files that secrets are to be read from, blocking; the values of a later source win over an earlier one's.

    So a file that a later source overrides is not read. A secret that one source gives both as a value and as a file is a
    problem, unless the value is empty, as a template leaves it.
    """
    contents = Contents()
    winners: dict[str, Found] = {}
    for source in sources:
        files = {secret_path(item): item for item in source if item.key.content_of}
        for item in source:
            file = None if item.key.content_of else files.get(item.path)
            if file is None:
                winners[secret_path(item)] = item
            elif item.value:
                problem = f"{file.origin} names a file for it as well: keep one of them"
                contents.problems.append(Problem(f"{item.origin}: {item.path}", problem))
    for path, item in winners.items():
        if not item.key.content_of:
            contents.found.append(item)
            continue
        name = str(item.value)
        try:
            secret = read_secret(Path(name))
        except ConfigurationError as error:
            contents.problems.append(Problem(f"{item.origin}: {item.path}", str(error)))
            continue
        key = schema.secret_of(item.key)
        contents.found.append(Found(key, secret, f"{item.origin} ({name})", item.index))
        contents.files[path] = SecretFile(name, item.origin)
    return contents


def secret_path(item: Found) -> str:
    """Return the path of the setting that `item` sets: of the secret, if it names a file with one."""
    return item.path if not item.key.content_of else path_of_secret(item.key, item.index)


def path_of_secret(file_key: Key, index: int | None = None) -> str:
    """Return the path of the setting whose value the file of `file_key` holds."""
    table = file_key.section if index is None else f"{file_key.section}[{index}]"
    return f"{table}.{file_key.content_of}"


def read_secret(path: Path) -> str:
    """Return the text of a file without the white space around it.

    As ssh does with its keys, a file of this user's own is refused if others may read it. Files of somebody else's, such
    as those that Docker and Kubernetes mount, are as open as their owner made them, but may not be writable by all.

    :raises ConfigurationError: in one line, without the content; and without the name if it may be the secret itself.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{_shown(path)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"is not a file name: {error}") from None
    try:
        _check_status(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as opened:
            data = opened.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_SECRET_BYTES // 1024} KiB, which no secret is")
    try:
        # Editors on Windows begin a file with a byte order mark (RFC 3629 section 6).
        secret = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} must be UTF-8 (byte {error.start} is not)") from None
    if not secret:
        raise ConfigurationError(f"{path} is empty")
    return secret


def _check_status(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ConfigurationError(
            f"{path} is {kind}; a secret is read at each start and reload, so it must be a file"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        raise ConfigurationError(f"{path} is writable by every user (mode {mode:04o}): chmod 0400 it")
    if status.st_uid == os.geteuid() and mode & stat.S_IROTH:
        raise ConfigurationError(f"{path} is readable by every user (mode {mode:04o}): chmod 0400 it")


def _shown(path: Path) -> str:
    """Return the name of a file that could not be opened, if it names a file: people paste secrets into such settings."""
    folder = path.parent
    if folder in {Path("/"), Path()} or not _is_folder(folder):
        return "a file of that name (not shown, as it may be the secret itself)"
    return str(path) if str(path).isprintable() else ascii(str(path))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
