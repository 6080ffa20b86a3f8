"""What `greenroom serve --dev` tells the person who started it."""

import shlex
import shutil
import sys
from pathlib import Path

from broker.config.check import hmac_algorithms
from broker.config.dev import DEV
from broker.config.load import Loaded


def dev_notes(loaded: Loaded, address: str, *, config_file: Path | None, program: str) -> str:
    """Return the address, the secrets that were made up and how to use them, a line each.

    `address` is the server's URL, and `program` what a shell starts this program with. The console's brings an API key that was made up for this run in the fragment,
    which browsers send to no server (RFC 9110 section 4.2.3) and the console takes out of the address at once.
    Secrets that the person gave are not repeated: the console asks for them.
    """
    settings, origins = loaded.settings, loaded.origins
    notes = {
        "Listening on": address,
        "Secret": _told(settings.auth.secret, origins["auth.secret"]),
        "API key": _told(settings.http.api_key, origins["http.api_key"]),
    }
    if hmac_algorithms(settings.auth):
        command = f"{program} token --user alice"
        if config_file is not None:
            command += f" --config {shlex.quote(str(config_file))}"
        if origins["auth.secret"] == DEV:
            command = f"GREENROOM_SECRET={settings.auth.secret} {command}"
        notes["Make a token"] = command
    key = f"#key={settings.http.api_key}" if origins["http.api_key"] == DEV else ""
    notes["Console"] = f"{address}/{key}"
    return "\n".join(f"{name + ':':<14} {value}" for name, value in notes.items())


def shell_name(path: str) -> str:
    """Return what a shell starts the program at `path` (Python's `sys.argv[0]`) with: its name, where that finds it."""
    program = Path(path)
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {program.parent.name}"
    found = shutil.which(program.name)
    if found is not None and Path(found).resolve() == program.resolve():
        return program.name
    return shlex.quote(path)


def _told(secret: str | None, origin: str) -> str:
    if not secret:
        return "not set"
    return secret if origin == DEV else f"as set by {origin}"
