"""HTTP clients, one in each process, and the mapping of their errors to ours."""

import os
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from broker.client.address import ascii_host, parse_address
from broker.client.errors import AddressError, ClientError, NotSentError
from broker.client.reasons import why
from broker.client.retries import RETRIED_STATUSES

KEEP_ALIVE_SECONDS = 60.0
"""Shorter than the server keeps an idle connection (75 s), so that no request meets one that is being closed."""

C = TypeVar("C", httpx2.Client, httpx2.AsyncClient)
T = TypeVar("T")

_VARIABLES = (
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSLKEYLOGFILE",
)

_PASSING_TLS_ERRORS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_PASSING_ALERT = "TLSV1_ALERT_INTERNAL_ERROR"
"""The alert of a server whose TLS has failed for a reason of its own (RFC 8446 section 6.2)."""

_PASSING_STATUSES = tuple(f"{status} " for status in RETRIED_STATUSES)

# RFC 9110 section 5.5: visible characters, and blanks between them; what is not ASCII has no meaning there.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class PerProcess(Generic[T]):
    """A value that each process makes for itself at the first use, so that a forked child shares no connection.

    There is no lock, which a thread of the parent might hold at the fork, and no fork hook, which not every fork calls.
    The child leaves the parent's value open: closing it could wait for such a lock.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = {os.getpid(): make()}

    def get(self) -> T:
        """Return this process' value."""
        process = os.getpid()
        made = self._made.get(process)
        return self._made.setdefault(process, self._make()) if made is None else made

    def pop(self) -> T | None:
        """Return this process' value if it was made, and forget it."""
        return self._made.pop(os.getpid(), None)


class StepTimeouts(dict[str, float]):
    """The time limit of each step of a request, as httpcore asks for it: what is left of the whole."""

    def __init__(self, left_seconds: Callable[[], float]) -> None:
        super().__init__(dict.fromkeys(("connect", "pool", "read", "write"), left_seconds()))
        self._left_seconds = left_seconds

    def get(self, _step: str, _default: object = None) -> float:
        """Return what is left now."""
        return self._left_seconds()


def open_client(kind: type[C], url: str, api_key: str, timeout_seconds: float) -> C:
    """Return a client that presents an API key; no connection is made.

    :raises AddressError: if `url` is no http:// or https:// address.
    :raises NotSentError: if the key, or what the environment says of proxies and certificates, cannot be used.
    """
    check_header_value("api_key", api_key)
    _check_address(url)
    options: dict[str, Any] = {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {api_key}"},
        "timeout": timeout_seconds,
        "limits": httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
        # The key is for this server, not for a target of its redirects.
        "follow_redirects": False,
    }
    try:
        _check_proxies()
        return kind(**options)
    except Exception as error:  # noqa: BLE001  # whatever httpx2 and ssl raise for what the environment says
        names = [name for name in _VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
        raise NotSentError(
            f"no HTTP client can be made; see {', '.join(names) or 'the environment'}: {why(error)}"
        ) from None


def check_header_value(name: str, value: object) -> None:
    """Check that a value can be sent in a header as it is.

    :raises NotSentError: if not; the message does not hold the value.
    """
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise NotSentError(
            f"{name}: must be a text of visible ASCII characters, with blanks only between them, and not empty"
        )


def raise_if_lasting(error: httpx2.RequestError) -> None:
    """Return if another attempt may go better.

    :raises NotSentError: if `error` would come again, and nothing was sent.
    :raises ClientError: if it would come again because the server speaks another protocol.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise NotSentError(
                f"the server's certificate is not to be trusted: {cause.verify_message}"
            ) from None
        is_connecting = isinstance(error, httpx2.ConnectError)
        if is_connecting and isinstance(cause, ssl.SSLError) and not _may_pass(cause):
            raise NotSentError(f"no TLS is possible: {why(cause)}") from None
    if isinstance(error, httpx2.UnsupportedProtocol):
        raise NotSentError(why(error)) from None
    if isinstance(error, httpx2.ProxyError) and not str(error).startswith(_PASSING_STATUSES):
        raise NotSentError(f"the proxy refuses: {error}") from None
    if isinstance(error, httpx2.RemoteProtocolError) and str(error).startswith("illegal "):
        # As h11 begins its text where the answer itself is unreadable; an answer that ends early begins otherwise.
        raise ClientError(
            "what answered is no HTTP server; a server with TLS has an https:// address"
        ) from None


def _may_pass(error: ssl.SSLError) -> bool:
    """Whether a server that fails a handshake so may be going down, or coming up."""
    return isinstance(error, _PASSING_TLS_ERRORS) or error.reason == _PASSING_ALERT


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _check_proxies() -> None:
    """Check the proxies of the environment, of which httpx2 finds only some mistakes before it connects.

    :raises ValueError: if nothing can connect to one.
    """
    proxies = getproxies()
    for address in (proxies[scheme] for scheme in ("http", "https", "all") if scheme in proxies):
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.port == 0 or not ascii_host(parts.hostname or ""):
            raise ValueError("the address of the proxy has no host, or port 0")


def _check_address(url: str) -> None:
    try:
        is_http = httpx2.URL(url).scheme in {"http", "https"} and bool(parse_address(url).host)
    except (httpx2.InvalidURL, TypeError, ValueError):
        is_http = False
    if not is_http or httpx2.URL(url).port == 0:
        # Not repeated: a key may have been given in its place.
        raise AddressError("url: is no http:// or https:// address")
