"""Names of a package that import their modules when they are first asked for (PEP 562)."""

# Nothing is imported here: a server has its signal handlers in place before the first import.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(package: str, modules: "Mapping[str, str]") -> "Callable[[str], object]":
    """Return the `__getattr__` of a package, given the module of each of its public names."""

    def get(name: str) -> object:
        import importlib  # noqa: PLC0415  # see above

        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get
