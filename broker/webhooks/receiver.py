"""Posts batches to the address of a webhook, over kept-alive connections.

The address belongs to the application, but may be another server by mistake, so nothing is followed or kept: no
redirects, no cookies, no compressed answers, and bounded size and time.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import httpx2
import trio

from broker.client.reasons import why
from broker.config.settings import WebhookSettings
from broker.errors import ConfigurationError
from broker.model import WallClock
from broker.outgoing import read_bounded
from broker.signatures import read_secret, sign
from broker.webhooks.batches import Batch
from broker.webhooks.progress import Failure, FailureReason

MOST_ANSWER_BYTES = 65_536
"""Most of an answer that is read, so that the connection can be used again."""

MOST_DETAIL_CHARACTERS = 200

IDLE_SECONDS = 30.0
"""How long a connection is kept without a request; less than servers and proxies keep theirs."""

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "*/*",
    # So that its size is what comes.
    "Accept-Encoding": "identity",
    "User-Agent": "Greenroom",
}


@attrs.frozen
class Receiver:
    """The address of one webhook."""

    _client: httpx2.AsyncClient
    _url: str
    _keys: Sequence[bytes] = attrs.field(repr=False)
    _timeout_seconds: float
    _wall_clock: WallClock

    async def post(self, batch: Batch, traceparent: str | None = None) -> Failure | None:
        """Post a batch; returns None once it was answered with a status 2xx, whole and in time."""
        signed = sign(batch.id, int(self._wall_clock()), batch.body, self._keys)
        if traceparent is not None:
            signed["traceparent"] = traceparent
        try:
            with trio.fail_after(self._timeout_seconds):
                return await self._post(batch.body, signed)
        except trio.TooSlowError:
            return Failure(FailureReason.TIMEOUT, f"no answer within {self._timeout_seconds:g} s")
        except httpx2.ConnectError as error:
            return Failure(FailureReason.CONNECT, why(error)[:MOST_DETAIL_CHARACTERS])
        except Exception as error:  # noqa: BLE001  # whatever httpx2, ssl and the resolver raise for a server like this
            # The texts of these may hold what the server sent.
            return Failure(FailureReason.ANSWER, f"no whole answer: {type(error).__name__}")
        finally:
            self._client.cookies.clear()

    async def _post(self, body: bytes, signed: dict[str, str]) -> Failure | None:
        async with self._client.stream("POST", self._url, content=body, headers=HEADERS | signed) as response:
            status = response.status_code
            if response.is_redirect:
                return Failure(FailureReason.REDIRECT, f"status {status}: redirects are not followed")
            if await read_bounded(response, MOST_ANSWER_BYTES) is None:
                return Failure(FailureReason.ANSWER, f"an answer of more than {MOST_ANSWER_BYTES} bytes")
        return None if response.is_success else Failure(FailureReason.STATUS, f"status {status}")


@asynccontextmanager
async def open_receiver(webhook: WebhookSettings, wall_clock: WallClock) -> AsyncIterator[Receiver]:
    """Open the client of a webhook; leaving the block closes its connections.

    :raises ConfigurationError: if what the environment says of proxies and certificates cannot be used.
    """
    keys = [read_secret(secret) for secret in (webhook.secret, webhook.previous_secret) if secret]
    async with _make_client() as client:
        yield Receiver(client, webhook.url, keys, webhook.timeout_seconds, wall_clock)


def _make_client() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS)
    try:
        # `Receiver.post` has one limit for the whole exchange.
        return httpx2.AsyncClient(follow_redirects=False, timeout=None, limits=limits)
    except Exception as error:  # noqa: BLE001  # whatever httpx2 and ssl raise for what the environment says
        reason = why(error)[:MOST_DETAIL_CHARACTERS]
        raise ConfigurationError(
            f"webhooks: no HTTP client can be made; see the proxies and certificates of the environment: {reason}"
        ) from None
