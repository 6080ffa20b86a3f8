"""The version of this Greenroom."""


def installed_version() -> str | None:
    """Return the version of the installed distribution, None when it runs from a checkout."""
    import importlib.metadata  # noqa: PLC0415  # takes long, and a server starts without it

    try:
        return importlib.metadata.version("greenroom")
    except importlib.metadata.PackageNotFoundError:
        return None


def greenroom_version() -> str:
    """Return the version as servers give it, 0 when it runs from a checkout."""
    return installed_version() or "0"
