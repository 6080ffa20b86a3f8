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
        try:
            module = importlib.import_module(modules[name])
        except ImportError as error:
            hidden = find_hidden_actors()
            if hidden is None:
                raise
            raise ImportError(hidden) from error
        return getattr(module, name)

    return get


def find_hidden_actors() -> str | None:
    """Return why another module is found in place of our package `actors`, None if it is ours."""
    from importlib.util import find_spec  # noqa: PLC0415
    from os import path  # noqa: PLC0415

    spec = find_spec("actors")
    found = None if spec is None else spec.origin
    ours = path.join(path.dirname(path.dirname(path.abspath(__file__))), "actors", "__init__.py")  # noqa: PTH100, PTH118, PTH120
    if found is not None and path.realpath(found) == path.realpath(ours):
        return None
    return f"the module actors is {found}, which hides Greenroom's {ours}: rename it, or move it off sys.path"
