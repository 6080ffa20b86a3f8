"""Publishing from any service over the HTTP API; needs neither trio nor the server."""

import time
from collections.abc import Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import anyio
import attrs
import httpx2
import msgspec

from broker.client.reasons import why
from broker.client.results import Outcome, Published
from broker.client.retries import Again, Attempts, read_outcomes, read_published

TIMEOUT_SECONDS = 5.0
GIVE_UP_SECONDS = 15.0
KEEP_ALIVE_SECONDS = 60.0
"""Shorter than the server keeps an idle connection (75 s), so that no request meets one that is being closed."""

Message = Mapping[str, Any]


@attrs.frozen
class _Call:
    """One request, as often as it is sent."""

    path: str
    body: bytes
    headers: dict[str, str]
    attempts: Attempts


class _Calls:
    """Makes calls; the same for both publishers."""

    def __init__(self, give_up_seconds: float, random: Random | None) -> None:
        self._give_up_seconds = give_up_seconds
        self._random = random or Random()  # noqa: S311  # spreads retries, keeps no secret

    def publish(self, room: str, message: Message, idempotency_key: str | None, *, ephemeral: bool) -> _Call:
        # A name of dots would be taken for a step in the path (RFC 3986 section 5.2.4).
        name = quote(room, safe="").replace(".", "%2E") if room in {".", ".."} else quote(room, safe="")
        path = f"/api/rooms/{name}/messages"
        return self._call(path, message, idempotency_key, ephemeral=ephemeral)

    def broadcast(
        self, rooms: Sequence[str], message: Message, idempotency_key: str | None, *, ephemeral: bool
    ) -> _Call:
        body = {"rooms": list(rooms), "message": message}
        return self._call("/api/broadcast", body, idempotency_key, ephemeral=ephemeral)

    def _call(self, path: str, body: Message, idempotency_key: str | None, *, ephemeral: bool) -> _Call:
        key = idempotency_key or uuid4().hex
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        attempts = Attempts(key, time.monotonic() + self._give_up_seconds, self._random)
        target = path + ("?ephemeral=1" if ephemeral else "")
        return _Call(target, msgspec.json.encode(body), headers, attempts)


def _options(url: str, api_key: str, timeout_seconds: float) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http:// or https:// address")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {api_key}"},
        "timeout": timeout_seconds,
        "limits": httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
        # The key is for this server, and not for where it might point.
        "follow_redirects": False,
    }


def _next_step(call: _Call, response: httpx2.Response) -> bytes | Again:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return call.attempts.answered(response.status_code, headers, response.content, time.monotonic())


def _after_failure(call: _Call, error: httpx2.TransportError) -> Again:
    return call.attempts.failed(f"no answer: {why(error)}", time.monotonic())


class Publisher:
    """Says things in rooms, for synchronous services: Django, Flask, a script.

    Connections are kept alive; one publisher serves a whole process and all of its threads. A forked process needs
    one of its own. Without an answer, or with 429, 502, 503 or 504, a request is sent again with the same key, after
    a delay with full jitter and not before `Retry-After`, so that a message is said once.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        random: Random | None = None,
    ) -> None:
        """Make a publisher for the server at `url`; no connection is made yet.

        `timeout_seconds` bounds each step of an attempt (connecting, writing, reading), `give_up_seconds` when the
        last attempt begins.

        :raises ValueError: if `url` is no http:// or https:// address.
        """
        self._calls = _Calls(give_up_seconds, random)
        self._client = httpx2.Client(**_options(url, api_key, timeout_seconds))

    def publish(
        self, room: str, message: Message, *, idempotency_key: str | None = None, ephemeral: bool = False
    ) -> Published:
        """Say `message`, a JSON object with a `type` of its own, in a room; returns once it is stored.

        The same `idempotency_key` in the same room within the server's window (5 minutes) is said once. An
        ephemeral message is in no history.

        :raises RefusedError: if the server refuses it: nothing was said.
        :raises UnavailableError: if there was no answer in time: it may or may not have been said.
        :raises ClientError: if what answered is no Greenroom server.
        """
        return read_published(
            self._send(self._calls.publish(room, message, idempotency_key, ephemeral=ephemeral))
        )

    def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
    ) -> list[Outcome]:
        """Say one message in up to 1000 rooms; each fails alone. Else as `publish`."""
        return read_outcomes(
            self._send(self._calls.broadcast(rooms, message, idempotency_key, ephemeral=ephemeral))
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: _Call) -> bytes:
        while True:
            try:
                step = _next_step(call, self._client.post(call.path, content=call.body, headers=call.headers))
            except httpx2.TransportError as error:
                step = _after_failure(call, error)
            if isinstance(step, bytes):
                return step
            time.sleep(step.after_seconds)


class AsyncPublisher:
    """The same for asyncio and trio: FastAPI, Starlette, Quart.

    Make and use one in one event loop.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        random: Random | None = None,
    ) -> None:
        """See `Publisher`."""
        self._calls = _Calls(give_up_seconds, random)
        self._client = httpx2.AsyncClient(**_options(url, api_key, timeout_seconds))

    async def publish(
        self, room: str, message: Message, *, idempotency_key: str | None = None, ephemeral: bool = False
    ) -> Published:
        """See `Publisher.publish`. If cancelled, it may or may not be said."""
        return read_published(
            await self._send(self._calls.publish(room, message, idempotency_key, ephemeral=ephemeral))
        )

    async def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
    ) -> list[Outcome]:
        """See `Publisher.broadcast`. If cancelled, it may or may not be said."""
        return read_outcomes(
            await self._send(self._calls.broadcast(rooms, message, idempotency_key, ephemeral=ephemeral))
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _send(self, call: _Call) -> bytes:
        while True:
            try:
                response = await self._client.post(call.path, content=call.body, headers=call.headers)
                step = _next_step(call, response)
            except httpx2.TransportError as error:
                step = _after_failure(call, error)
            if isinstance(step, bytes):
                return step
            await anyio.sleep(step.after_seconds)
