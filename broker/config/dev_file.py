"""The file in which `greenroom serve --dev` keeps its secrets, so that they outlive a restart."""

import errno
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

import attrs

from broker.config.problems import Problem
from broker.errors import ConfigurationError

FILE_NAME = "greenroom-dev.env"

_SECRET_BYTES = 48
_MOST_BYTES = 4096
_SECRET, _API_KEY = "GREENROOM_SECRET", "GREENROOM_API_KEY"
_LINE = re.compile(rf"(?:export )?({_SECRET}|{_API_KEY})=([\x21-\x7e]+)")


@attrs.frozen
class DevSecrets:
    """A secret that signs tokens, and an API key."""

    secret: str = attrs.field(repr=False)
    api_key: str = attrs.field(repr=False)


class NotKeptError(ConfigurationError):
    """The file cannot be made."""


def make_dev_secrets() -> DevSecrets:
    """Make new ones."""
    return DevSecrets(secrets.token_urlsafe(_SECRET_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def default_dev_file() -> Path | None:
    """Return the file in the folder of this environment; None outside of a virtual or conda environment."""
    prefix = Path(sys.prefix)
    is_environment = sys.prefix != sys.base_prefix or (prefix / "conda-meta").is_dir()
    return prefix / FILE_NAME if is_environment else None


def keep_dev_secrets(file: Path) -> DevSecrets:
    """Return the secrets of a file; one with new secrets is made if there is none, with mode 0600.

    It can be read by a shell (`. FILE`). Of several processes at once, all return those of the first.

    :raises NotKeptError: if there is none, and none can be made that only its owner may read.
    :raises ConfigurationError: if it cannot be read, others may read it, or a secret is missing in it.
    """
    try:
        return _read(file)
    except FileNotFoundError:
        _make(file, make_dev_secrets())
    try:
        return _read(file)
    except FileNotFoundError as error:
        raise NotKeptError(str(Problem(str(file), "is gone again"))) from error


def _read(file: Path) -> DevSecrets:
    """Read the secrets.

    :raises FileNotFoundError: if there is no file.
    :raises ConfigurationError: see `keep_dev_secrets`.
    """
    try:
        # A named pipe would not be opened before somebody writes to it.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _problem(file, "is no file")
            if status.st_uid not in {0, os.geteuid()}:
                raise _problem(file, "belongs to another user: remove it, and new secrets are made")
            if status.st_mode & 0o077:
                raise _problem(file, "is open to other users: chmod 600, or remove it for new secrets")
            text = opened.read(_MOST_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _problem(file, f"cannot be read: {_reason(error)}") from error
    matches = [_LINE.fullmatch(line.strip()) for line in text.splitlines()]
    found = {match[1]: match[2] for match in matches if match}
    missing = [name for name in (_SECRET, _API_KEY) if name not in found]
    if missing:
        raise _problem(file, f"has no {' and no '.join(missing)}: remove it, and new secrets are made")
    return DevSecrets(found[_SECRET], found[_API_KEY])


def _make(file: Path, made: DevSecrets) -> None:
    """Make the file, unless another process was quicker. It appears whole, or not at all.

    :raises NotKeptError: if it cannot be made.
    """
    text = f"# Made by greenroom serve --dev.\nexport {_SECRET}={made.secret}\nexport {_API_KEY}={made.api_key}\n"
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(text.encode())
                if os.fstat(descriptor).st_mode & 0o077:
                    raise OSError(errno.EPERM, "its file system has no modes")
            _give_name(draft, file)
        finally:
            draft.unlink()
    except (OSError, ValueError) as error:
        raise NotKeptError(str(Problem(str(file), f"cannot be made: {_reason(error)}"))) from error


def _give_name(draft: Path, file: Path) -> None:
    with suppress(FileExistsError):
        os.link(draft, file)


def _reason(error: Exception) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)


def _problem(file: Path, message: str) -> ConfigurationError:
    return ConfigurationError(str(Problem(str(file), message)))
