"""The notes that `greenroom serve --dev` prints at its start."""

import shlex
import shutil
import sys
from pathlib import Path

from broker.config.check import hmac_algorithms
from broker.config.dev import DEV
from broker.config.load import Loaded


def dev_notes(
    loaded: Loaded, address: str, *, kept: str | None, config_file: Path | None, program: str
) -> str:
    """Return the address, the generated secrets and how to use them, a line each.

    `address` is the server's URL, `kept` says where generated secrets are kept, and `program` is the word that starts
    this program in a shell. The console's URL, in the last line, has a
    generated API key in its fragment, which browsers send to no server (RFC 9110 section 4.2.3) and the console
    removes from the address at once. Configured secrets are not repeated: the console asks for them.
    """
    settings, origins = loaded.settings, loaded.origins
    notes = {
        "Listening on": address,
        "Secret": _shown(settings.auth.secret, origins["auth.secret"]),
        "API key": _shown(settings.http.api_key, origins["http.api_key"]),
    }
    if kept is not None:
        notes["Kept in"] = kept
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
    """Return the shell word that starts the program at `path` (Python's `sys.argv[0]`): its name if it is on PATH."""
    program = Path(path)
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {program.parent.name}"
    found = shutil.which(program.name)
    if found is not None and Path(found).resolve() == program.resolve():
        return program.name
    return shlex.quote(path)


def _shown(secret: str | None, origin: str) -> str:
    if not secret:
        return "not set"
    return secret if origin == DEV else f"as set by {origin}"
