"""Reasons of failed connections, as text for people."""

import os
import socket
import ssl
from collections.abc import Iterator


def why(error: BaseException) -> str:
    """Return the system's reason behind `error`, such as "connection refused".

    Libraries wrap it, once for each address that they tried; equal reasons are given once.
    """
    return ", ".join(dict.fromkeys(_reasons(error)))


def _reasons(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _reasons(part)
    elif isinstance(error, OSError) and error.errno is not None:
        yield _of_system(error, error.errno)
    elif (cause := error.__cause__ or error.__context__) is not None:
        # Also a cause that a library hides with `from None`.
        yield from _reasons(cause)
    else:
        yield str(error) or type(error).__name__


def _of_system(error: OSError, number: int) -> str:
    # These two have numbers of their own.
    is_other_number = isinstance(error, ssl.SSLError | socket.gaierror)
    text = error.strerror or str(error) if is_other_number else os.strerror(number)
    return text[:1].lower() + text[1:]
