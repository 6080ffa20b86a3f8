"""The witness: a few bytes beside a SQLite file that show whether it was set back. Blocking; no trio, and no SQL.

A file that was restored, alone or with its directory or machine, does not show that: its rooms would give offsets
they gave before to other events, and a client that has seen the former would silently miss the latter. So the total
of the file (`broker.engine.sqlite.resume`) is also noted in a witness, at each commit. The witness is a file in a
directory that is not restored together with the database and, as a rule, is in the machine's memory. It names the
boot of the machine and the database file: a copy of the database is another file.

It is written twice for each commit, before and after, so that a process killed in between leaves a witness for both
states. It need not reach a disk: in another boot it is not valid.
"""

import os
import re
import secrets
import stat
import struct
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import attrs

TOKEN = re.compile(r"[0-9a-f]{32}")
"""The name of a witness, which its database holds."""

_SUBJECT = struct.Struct("<16sQQ")
_TOTALS = struct.Struct("<QQ")
_BYTES = _SUBJECT.size + _TOTALS.size


@attrs.frozen
class WitnessRecord:
    """The content of a witness: its boot and file, and the totals before and after the latest commit."""

    boot: bytes
    device: int
    inode: int
    before: int
    after: int

    def find_mismatch(self, boot: str, file: os.stat_result, total: int) -> str | None:
        """Return why a file with this total may not be the state left last; None if it is."""
        if self.boot != _digest(boot):
            return "the machine was started again, or is another one"
        if (self.device, self.inode) != (file.st_dev, file.st_ino):
            return "the file is a copy"
        if total not in {self.before, self.after}:
            return "the file does not hold what was stored last"
        return None


class Witness:
    """An open witness. Without a descriptor it stores nothing, and the next start finds none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def note(self, before: int, after: int) -> None:
        """Store the totals before and after a commit; after the commit, the same total twice.

        :raises OSError: if it cannot be written.
        """
        if self._descriptor is not None:
            os.pwrite(self._descriptor, _TOTALS.pack(before, after), _SUBJECT.size)

    def close(self) -> None:
        """Close it; it stays for the next start."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_witness(directory: Path, token: str) -> tuple[int, WitnessRecord] | None:
    """Return the descriptor of a witness and its content; None if there is none, or another user owns it."""
    if TOKEN.fullmatch(token) is None:
        return None
    try:
        descriptor = os.open(_path(directory, token), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    found = os.fstat(descriptor)
    record = b""
    # Any user may write to the directory.
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        record = os.pread(descriptor, _BYTES + 1, 0)
    if len(record) != _BYTES:
        os.close(descriptor)
        return None
    subject, totals = record[: _SUBJECT.size], record[_SUBJECT.size :]
    return descriptor, WitnessRecord(*_SUBJECT.unpack(subject), *_TOTALS.unpack(totals))


def make_witness(directory: Path, boot: str, file: os.stat_result) -> tuple[int, str]:
    """Make a witness for a file in this boot, with totals of 0; return its descriptor and token.

    :raises OSError: if the directory does not exist or cannot be written.
    """
    token = secrets.token_hex(16)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(_path(directory, token), flags, 0o600)
    try:
        subject = _SUBJECT.pack(_digest(boot), file.st_dev, file.st_ino)
        os.pwrite(descriptor, subject + _TOTALS.pack(0, 0), 0)
    except BaseException:
        os.close(descriptor)
        remove_witness(directory, token)
        raise
    return descriptor, token


def remove_witness(directory: Path, token: str) -> None:
    """Remove a witness, if it exists."""
    with suppress(OSError):
        _path(directory, token).unlink()


def _path(directory: Path, token: str) -> Path:
    return directory / f"greenroom-witness-{token}"


def _digest(boot: str) -> bytes:
    return blake2b(boot.encode(), digest_size=16).digest()
