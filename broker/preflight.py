"""The problems of a configuration that prevent a start, found without opening its port, a database or a connection.

`greenroom config check` and a start report the same problems, as both call `find_problems`.
"""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from broker.auth.keys import load_all_keys
from broker.config.check import check_settings, place_of
from broker.config.problems import Problem
from broker.config.settings import Settings
from broker.engine.open import ENGINE_SCHEMES, check_engine
from broker.errors import ConfigurationError
from broker.traces.opening import check_traces
from broker.transport.listening import bind_all
from broker.transport.tls.credentials import load_credentials
from broker.transport.unix_socket import socket_path

_NO_ORIGINS: Mapping[str, str] = MappingProxyType({})


def find_problems(
    settings: Settings, *, dev: bool, origins: Mapping[str, str] = _NO_ORIGINS
) -> list[Problem]:
    """Return all problems that prevent a start with `settings`; reads the files that they name, blocking.

    `origins` are by dotted key, see `broker.config.load.Loaded`.
    """
    problems = check_settings(settings, dev=dev, engine_schemes=ENGINE_SCHEMES, origins=origins)
    # A setting with a problem need not be tried.
    tries: dict[str, Callable[[], object]] = {
        "auth.": lambda: load_all_keys(settings.auth),
        "server.engine": lambda: check_engine(settings),
        "server.tls_": lambda: load_credentials(settings.server),
        "traces.": lambda: check_traces(settings.traces),
    }
    for key, attempt in tries.items():
        if not any(key in problem.place for problem in problems):
            problems += _try(attempt)
    return problems


def find_host_problems(settings: Settings, *, origins: Mapping[str, str] = _NO_ORIGINS) -> list[Problem]:
    """Return why nothing can listen on the configured host; looks its name up, blocking.

    A start finds that out as it listens. The configured port is not tried: a running server may have it.
    """
    path = socket_path(settings.server.host)
    if path is not None:
        is_usable = os.access(path.parent, os.W_OK | os.X_OK)
        reason = f"cannot serve on {settings.server.host}: {path.parent} is no directory that can be written"
        return [] if is_usable else [Problem(place_of("server.host", origins), reason)]
    try:
        sockets = bind_all(msgspec.structs.replace(settings.server, port=0), shared=False)
    except OSError as error:
        reason = f"cannot serve on {settings.server.host}: {error.strerror or error}"
        return [Problem(place_of("server.host", origins), reason)]
    for sock in sockets:
        sock.close()
    return []


def find_warnings(settings: Settings, now: float) -> list[str]:
    """Return what is doubtful in settings without problems at the Unix time `now`, and prevents no start; reads files, blocking.

    :raises ConfigurationError: if a file cannot be used any more.
    """
    credentials = load_credentials(settings.server)
    warning = None if credentials is None else credentials.warning(now)
    return [] if warning is None else [f"server.tls_cert_file: {warning}"]


def _try(attempt: Callable[[], object]) -> list[Problem]:
    try:
        attempt()
    except ConfigurationError as error:
        return [Problem(*line.split(": ", 1)) for line in str(error).splitlines()]
    return []
