"""Why a connection could not be had, as a person is told."""

import errno
import socket
import ssl

import httpx2
import pytest
import trio

from broker.client.reasons import why

REFUSED = ConnectionRefusedError(
    errno.ECONNREFUSED, "Error connecting to ('127.0.0.1', 1): Connection refused"
)
UNREACHABLE = OSError(errno.ENETUNREACH, "Error connecting")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (REFUSED, "connection refused"),
        (caused(OSError("all failed"), ExceptionGroup("all", [REFUSED, REFUSED])), "connection refused"),
        (ExceptionGroup("all", [UNREACHABLE, REFUSED]), "network is unreachable, connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (
            caused(trio.BrokenResourceError(), ssl.SSLCertVerificationError(1, "certificate verify failed")),
            "certificate verify failed",
        ),
        (OSError("nobody there"), "nobody there"),
        (trio.BrokenResourceError(), "BrokenResourceError"),
    ],
)
def test_the_system_has_the_word(error: Exception, told: str) -> None:
    assert why(error) == told


def test_an_http_library_hides_nothing() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with httpx2.Client() as http, pytest.raises(httpx2.ConnectError) as lost:
            http.get(f"http://127.0.0.1:{probe.getsockname()[1]}/")
    assert why(lost.value) == "connection refused"
