"""Which Greenroom this is."""

import importlib.metadata


def greenroom_version() -> str:
    """Return the version of the installed distribution, 0 when it runs from a checkout."""
    try:
        return importlib.metadata.version("greenroom")
    except importlib.metadata.PackageNotFoundError:
        return "0"
