"""Why a connection could not be had, in words for a person."""

import os
import socket
import ssl
from collections.abc import Iterator


def why(error: BaseException) -> str:
    """Return what the system says is behind `error`, such as "connection refused".

    Libraries wrap it, once for each of a name's addresses that they tried; what several say alike is said once.
    """
    return ", ".join(dict.fromkeys(_reasons(error)))


def _reasons(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _reasons(part)
    elif isinstance(error, OSError) and error.errno is not None:
        yield _of_system(error, error.errno)
    elif (cause := error.__cause__ or error.__context__) is not None:
        # Also what a library hides with `from None`.
        yield from _reasons(cause)
    else:
        yield str(error) or type(error).__name__


def _of_system(error: OSError, number: int) -> str:
    # These two have numbers of their own.
    is_other_number = isinstance(error, ssl.SSLError | socket.gaierror)
    text = error.strerror or str(error) if is_other_number else os.strerror(number)
    return text[:1].lower() + text[1:]
