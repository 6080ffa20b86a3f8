"""Publishing from any service over the HTTP API; needs neither trio nor the server."""

import time
from collections.abc import Iterable, Mapping, Sequence
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import anyio
import attrs
import httpx2

from broker.client.errors import NotSentError
from broker.client.http_client import (
    PerProcess,
    check_header_value,
    open_client,
    raise_if_lasting,
)
from broker.client.reasons import why
from broker.client.results import Outcome, Published
from broker.client.retries import Attempts, RetryAfter, read_outcomes, read_published
from broker.client.wire import encode_message
from broker.clocks import Clock, boot_clock
from broker.errors import Refused
from broker.model import check_room_name

TIMEOUT_SECONDS = 5.0
GIVE_UP_SECONDS = 15.0

Message = Mapping[str, Any]
C = TypeVar("C", httpx2.Client, httpx2.AsyncClient)


@attrs.frozen
class _Call:
    """One request, with its attempts."""

    path: str
    body: bytes
    headers: dict[str, str]
    attempts: Attempts
    clock: Clock


@attrs.frozen
class _Resources(Generic[C]):
    """The client and the random numbers of one process."""

    client: C
    random: Random
    """Spreads retries, keeps no secret; those of forked children must not go alike."""


class _Calls(Generic[C]):
    """Makes calls; the same for both publishers."""

    def __init__(
        self,
        kind: type[C],
        url: str,
        api_key: str,
        *,
        timeout_seconds: float,
        give_up_seconds: float,
        random: Random | None,
        clock: Clock,
    ) -> None:
        def make() -> _Resources[C]:
            client = open_client(kind, url, api_key, timeout_seconds)
            return _Resources(client, random or SystemRandom())

        self._resources: PerProcess[_Resources[C]] = PerProcess(make)
        self._give_up_seconds = give_up_seconds
        self._clock = clock
        self._is_closed = False

    def client(self) -> C:
        """Return this process' client.

        :raises NotSentError: if the publisher is closed, or the client cannot be made.
        """
        return self._own().client

    def _own(self) -> _Resources[C]:
        if self._is_closed:
            raise NotSentError("the publisher is closed")
        return self._resources.get()

    def close(self) -> C | None:
        """Refuse further calls; returns the client to close."""
        self._is_closed = True
        resources = self._resources.pop()
        return None if resources is None else resources.client

    def publish(self, room: str, message: Message, idempotency_key: str | None, *, ephemeral: bool) -> _Call:
        _check_text("room", room)
        try:
            check_room_name(room)
        except Refused as refused:
            raise NotSentError(refused.message) from None
        path = f"/api/rooms/{quote(room, safe='')}/messages"
        return self._call(path, message, idempotency_key, ephemeral=ephemeral)

    def broadcast(
        self, rooms: Sequence[str], message: Message, idempotency_key: str | None, *, ephemeral: bool
    ) -> _Call:
        if isinstance(rooms, str | bytes | bytearray) or not isinstance(rooms, Iterable):
            raise NotSentError(f"rooms: a list of names, not {type(rooms).__name__}")
        names = list(rooms)
        for index, room in enumerate(names):
            _check_text(f"rooms[{index}]", room)
        body = {"rooms": names, "message": message}
        return self._call("/api/broadcast", body, idempotency_key, ephemeral=ephemeral)

    def _call(self, path: str, body: Message, idempotency_key: str | None, *, ephemeral: bool) -> _Call:
        if idempotency_key is not None:
            check_header_value("idempotency_key", idempotency_key)
        content = encode_message(body)
        key = uuid4().hex if idempotency_key is None else idempotency_key
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        attempts = Attempts(key, self._clock() + self._give_up_seconds, self._own().random)
        target = path + ("?ephemeral=1" if ephemeral else "")
        return _Call(target, content, headers, attempts, self._clock)


def _check_text(name: str, value: object) -> None:
    """Check the type of an argument.

    :raises NotSentError: if it is no text.
    """
    if not isinstance(value, str):
        raise NotSentError(f"{name}: a text, not {type(value).__name__}")


def _next_step(call: _Call, response: httpx2.Response) -> bytes | RetryAfter:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return call.attempts.answered(response.status_code, headers, response.content, call.clock())


def _after_failure(call: _Call, error: httpx2.RequestError) -> RetryAfter:
    raise_if_lasting(error)
    return call.attempts.failed(f"no answer: {why(error)}", call.clock())


class Publisher:
    """Publishes in rooms from synchronous services: Django, Flask, a script.

    Connections are kept alive; one publisher serves all threads of a process. A forked process may use it too, with
    connections of its own. Without an answer, or with 429, 502, 503 or 504, a request is sent again with the same
    key, after a delay with full jitter and not before `Retry-After`, so that a message is stored once.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        random: Random | None = None,
        clock: Clock = boot_clock,
    ) -> None:
        """Make a publisher for the server at `url`; no connection is made yet.

        `timeout_seconds` bounds each step of an attempt (connecting, writing, reading), `give_up_seconds` when the
        last attempt begins. `clock` gives the seconds for that, which must go on while the machine sleeps.

        :raises AddressError: if `url` is no http:// or https:// address.
        :raises NotSentError: if the key, or what the environment says of proxies and certificates, cannot be used.
        """
        self._calls = _Calls(
            httpx2.Client,
            url,
            api_key,
            timeout_seconds=timeout_seconds,
            give_up_seconds=give_up_seconds,
            random=random,
            clock=clock,
        )

    def publish(
        self, room: str, message: Message, *, idempotency_key: str | None = None, ephemeral: bool = False
    ) -> Published:
        """Publish `message`, a JSON object with a `type` of its own, in a room; returns once it is stored.

        The same `idempotency_key` in the same room within the server's window (5 minutes) is stored once. An
        ephemeral message is delivered and not stored.

        :raises NotSentError: if an argument cannot be sent, or no connection to the server is possible, as its
            certificate is not trusted, it speaks no TLS, or the proxy refuses.
        :raises RefusedError: if the server refuses it: nothing was published.
        :raises UnavailableError: if there was no answer in time: it may or may not have been published.
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
        """Publish one message in up to 1000 rooms; each fails alone. Otherwise like `publish`."""
        return read_outcomes(
            self._send(self._calls.broadcast(rooms, message, idempotency_key, ephemeral=ephemeral))
        )

    def close(self) -> None:
        """Close the connections."""
        client = self._calls.close()
        if client is not None:
            client.close()

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
        client = self._calls.client()
        while True:
            try:
                response = client.post(call.path, content=call.body, headers=call.headers)
                step = _next_step(call, response)
            except httpx2.RequestError as error:
                step = _after_failure(call, error)
            if isinstance(step, bytes):
                return step
            time.sleep(step.after_seconds)
            call.attempts.check_time(call.clock())


class AsyncPublisher:
    """A `Publisher` for asyncio and trio: FastAPI, Starlette, Quart.

    Use it in the event loop that made it; a forked process may use it in a loop of its own.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        random: Random | None = None,
        clock: Clock = boot_clock,
    ) -> None:
        """See `Publisher`."""
        self._calls = _Calls(
            httpx2.AsyncClient,
            url,
            api_key,
            timeout_seconds=timeout_seconds,
            give_up_seconds=give_up_seconds,
            random=random,
            clock=clock,
        )

    async def publish(
        self, room: str, message: Message, *, idempotency_key: str | None = None, ephemeral: bool = False
    ) -> Published:
        """See `Publisher.publish`. If cancelled, it may or may not be published."""
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
        """See `Publisher.broadcast`. If cancelled, it may or may not be published."""
        return read_outcomes(
            await self._send(self._calls.broadcast(rooms, message, idempotency_key, ephemeral=ephemeral))
        )

    async def aclose(self) -> None:
        """Close the connections."""
        client = self._calls.close()
        if client is not None:
            await client.aclose()

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
        client = self._calls.client()
        while True:
            try:
                response = await client.post(call.path, content=call.body, headers=call.headers)
                step = _next_step(call, response)
            except httpx2.RequestError as error:
                step = _after_failure(call, error)
            if isinstance(step, bytes):
                return step
            await anyio.sleep(step.after_seconds)
            call.attempts.check_time(call.clock())
