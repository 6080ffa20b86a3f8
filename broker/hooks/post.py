"""Asks an application by HTTP, over kept connections.

Its answer decides what strangers may do, so nothing is followed or guessed: one address, certificates that are checked,
no redirects, status 200, and a bounded answer. The time is bounded by whoever asks.
"""

import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import attrs
import httpx2

from broker.config.settings import HookSettings
from broker.errors import ConfigurationError
from broker.hooks.ask import Ask, encode_ask
from broker.hooks.gate import HookFailedError
from broker.model import WallClock
from broker.outgoing import read_bounded
from broker.signatures import read_secret, sign

KEPT_SECONDS = 60.0
"""How long an idle connection is kept. One that the application closes meanwhile costs a second attempt at most."""


@attrs.define(eq=False)
class Post:
    """Posts questions to one address, over kept connections."""

    _client: httpx2.AsyncClient
    _url: str
    _keys: Sequence[bytes] = attrs.field(repr=False)
    _headers: frozenset[str]
    _cookies: frozenset[str]
    _most_bytes: int
    _wall_clock: WallClock

    async def send(self, ask: Ask) -> bytes:
        """See gate.Send."""
        body = encode_ask(ask, headers=self._headers, cookies=self._cookies)
        signed = sign(f"ask_{secrets.token_hex(12)}", int(self._wall_clock()), body, self._keys)
        if ask.traceparent is not None:
            signed["traceparent"] = ask.traceparent
        try:
            return await self._post(body, signed)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            # A kept connection that the application was closing just then: the same question once more.
            pass
        except HookFailedError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever httpx2, ssl and the resolver raise for a server like this
            raise HookFailedError(_words(error)) from None
        try:
            return await self._post(body, signed)
        except HookFailedError:
            raise
        except Exception as error:  # noqa: BLE001  # likewise
            raise HookFailedError(_words(error)) from None

    async def _post(self, body: bytes, signed: dict[str, str]) -> bytes:
        # Uncompressed, so that its size is what comes.
        # Questions of different clients share the client: what an answer sets must not go with another question.
        self._client.cookies.clear()
        headers = {
            **signed,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            if response.status_code != 200:
                raise HookFailedError(f"answered with status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise HookFailedError("its answer is compressed, which was not asked for")
            data = await read_bounded(response, self._most_bytes)
            if data is None:
                raise HookFailedError(f"its answer is larger than {self._most_bytes} bytes")
            return data


def make_client(settings: HookSettings) -> httpx2.AsyncClient:
    """Return the client of one hook, whose connections are closed with it.

    :raises ConfigurationError: if what the environment says of proxies and certificates cannot be used.
    """
    limits = httpx2.Limits(
        max_connections=settings.concurrency,
        max_keepalive_connections=settings.concurrency,
        keepalive_expiry=KEPT_SECONDS,
    )
    try:
        return httpx2.AsyncClient(follow_redirects=False, timeout=None, limits=limits)
    except Exception as error:  # noqa: BLE001  # whatever httpx2 and ssl raise for what the environment says
        raise ConfigurationError(
            f"hooks: no HTTP client can be made; see the proxies and certificates of the environment: {_words(error)}"
        ) from None


def make_post(
    client: httpx2.AsyncClient, settings: HookSettings, *, most_bytes: int, wall_clock: WallClock
) -> Post:
    """Return what asks the address of a hook.

    :raises ConfigurationError: if a secret is none.
    """
    given = [secret for secret in (settings.secret, settings.previous_secret) if secret]
    return Post(
        client,
        settings.url,
        [read_secret(secret) for secret in given],
        frozenset(name.lower() for name in settings.headers),
        frozenset(settings.cookies),
        most_bytes,
        wall_clock,
    )


def shown_url(url: str) -> str:
    """Return an address for the log: without its query, which may hold a key."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
