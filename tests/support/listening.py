"""The port on which a process listens, for tests of a process whose output cannot tell it."""

from contextlib import suppress
from pathlib import Path


def find_port(process_id: int) -> int | None:
    """Return the port; None while the process does not listen, or if it is gone."""
    sockets = set()
    # A descriptor may be closed between the list and the look at it.
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(descriptor.readlink()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A" and f"socket:[{inode}]" in sockets:
            return int(local.rpartition(":")[2], 16)
    return None
