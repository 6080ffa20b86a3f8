"""The secrets of `greenroom serve --dev`, and where they are kept."""

from pathlib import Path

from broker.config.dev import lacks_secrets, with_dev_secrets
from broker.config.dev_file import NotKeptError, default_dev_file, keep_dev_secrets, make_dev_secrets
from broker.config.load import Loaded

NOWHERE = Path("-")
"""As a file: secrets of this run only."""


def load_dev_secrets(loaded: Loaded, file: Path | None) -> tuple[Loaded, str | None]:
    """Return settings with secrets, and where the missing ones are kept, in words; None if none is missing.

    `file` is the one asked for, `NOWHERE`, or None for that of the environment. Where the latter cannot be made, the
    secrets are made for this run only.

    :raises ConfigurationError: if the file cannot be used.
    """
    if not lacks_secrets(loaded):
        return with_dev_secrets(loaded, make_dev_secrets()), None
    kept_in = default_dev_file() if file is None else file
    if kept_in is None or file == NOWHERE:
        return with_dev_secrets(loaded, make_dev_secrets()), "nowhere: see --dev-secrets"
    try:
        secrets = keep_dev_secrets(kept_in)
    except NotKeptError as error:
        if file is not None:
            raise
        return with_dev_secrets(loaded, make_dev_secrets()), f"nowhere: see --dev-secrets ({error})"
    return with_dev_secrets(loaded, secrets), str(kept_in)
