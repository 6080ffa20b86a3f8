"""What `greenroom serve --dev` tells the person who started it."""

import shlex
from pathlib import Path

from broker.config.dev import DEV
from broker.config.load import Loaded


def dev_notes(loaded: Loaded, address: str, *, token: str | None, config_file: Path | None) -> str:
    """Return the address, the secrets that were made up and how to use them, a line each.

    `address` is the server's URL. `token` opens the console; None when this server cannot make one. It
    stands in the fragment, which browsers send to no server (RFC 9110 section 4.2.3), so it is in no log.
    Secrets that the person gave are not repeated.
    """
    settings, origins = loaded.settings, loaded.origins
    notes = {
        "Listening on": address,
        "Secret": _told(settings.auth.secret, origins["auth.secret"]),
        "API key": _told(settings.http.api_key, origins["http.api_key"]),
    }
    if token is not None:
        command = "greenroom token --user alice"
        if config_file is not None:
            command += f" --config {shlex.quote(str(config_file))}"
        if origins["auth.secret"] == DEV:
            command = f"GREENROOM_SECRET={settings.auth.secret} {command}"
        notes |= {"Make a token": command, "Console": f"{address}/#token={token}"}
    return "\n".join(f"{name + ':':<14} {value}" for name, value in notes.items())


def _told(secret: str | None, origin: str) -> str:
    if not secret:
        return "not set"
    return secret if origin == DEV else f"as set by {origin}"
