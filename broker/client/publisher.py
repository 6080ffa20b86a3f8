"""The HTTP API for any service; needs neither trio nor the server."""

import time
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
import attrs
import httpx2

from broker.client import routes
from broker.client.errors import NotSentError
from broker.client.http_client import PerProcess, StepTimeouts, open_client, raise_if_lasting
from broker.client.reasons import why
from broker.client.results import (
    MessagePage,
    OnlineUser,
    Outcome,
    Published,
    Revoked,
    RoomDetails,
    RoomPage,
    UserPage,
)
from broker.client.retries import ATTEMPT_SECONDS, Attempts, RetryAfter
from broker.client.routes import Call, Message, PublishOptions
from broker.clocks import Clock, boot_clock
from broker.model import Position

TIMEOUT_SECONDS = 2.0
PAGE = 100

C = TypeVar("C", httpx2.Client, httpx2.AsyncClient)
T = TypeVar("T")


@attrs.frozen
class _Resources(Generic[C]):
    """The client and the random numbers of one process."""

    client: C
    random: Random
    """Spreads retries, keeps no secret; those of forked children must not go alike."""


class _Calls(Generic[C]):
    """The client of this process, and the attempts of each call; the same for both publishers."""

    def __init__(
        self,
        kind: type[C],
        url: str,
        api_key: str,
        *,
        timeout_seconds: float,
        random: Random | None,
        clock: Clock,
    ) -> None:
        if not timeout_seconds > 0:
            raise NotSentError("timeout_seconds: a number above 0")

        def make() -> _Resources[C]:
            client = open_client(kind, url, api_key, ATTEMPT_SECONDS)
            return _Resources(client, random or SystemRandom())

        self._resources: PerProcess[_Resources[C]] = PerProcess(make)
        self._timeout_seconds = timeout_seconds
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

    def begin(self, call: Call[T]) -> "_Request":
        give_up_at = self._clock() + self._timeout_seconds
        return _Request(Attempts(call.idempotency_key, give_up_at, self._own().random), self._clock)


@attrs.frozen
class _Request:
    """The attempts of one call."""

    attempts: Attempts
    clock: Clock

    def left_seconds(self) -> float:
        return self.attempts.left_seconds(self.clock())

    def answered(self, response: httpx2.Response, body: bytes) -> bytes | RetryAfter:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return self.attempts.answered(response.status_code, headers, body, self.clock())

    def failed(self, error: httpx2.RequestError) -> RetryAfter:
        raise_if_lasting(error)
        return self.attempts.failed(f"no answer: {why(error)}", self.clock())

    def timed_out(self) -> RetryAfter:
        return self.attempts.failed("no answer: timed out", self.clock())

    def check_time(self) -> None:
        self.attempts.check_time(self.clock())


class Publisher:
    """The API for synchronous services: Django, Flask, a script.

    Connections are kept alive; one publisher serves all threads of a process. A forked process may use it too, with
    connections of its own. Without an answer, or with 429, 502, 503 or 504, a request is sent again, after a delay with
    full jitter and not before `Retry-After`; a publish with the same key, so that it is stored once.

    Every call may raise:

    - NotSentError, at once, if an argument cannot be sent, or no connection to the server is possible, as its
      certificate is not trusted, it speaks no TLS, or the proxy refuses.
    - RefusedError if the server refuses it: nothing was done.
    - UnavailableError if there was no answer in time: it may or may not have been done.
    - ClientError if what answered is no Greenroom server.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        random: Random | None = None,
        clock: Clock = boot_clock,
    ) -> None:
        """Make a publisher for the server at `url`; no connection is made yet.

        `timeout_seconds` bounds each call with all its attempts, so that a web request waits no longer; in the
        background a longer one outlives restarts of the server. (The system's look-up of a host name is not bounded by
        it.) `clock` gives the seconds for that, which must go on while the machine sleeps.

        :raises AddressError: if `url` is no http:// or https:// address.
        :raises NotSentError: if the key, or what the environment says of proxies and certificates, cannot be used.
        """
        self._calls = _Calls(
            httpx2.Client, url, api_key, timeout_seconds=timeout_seconds, random=random, clock=clock
        )

    def publish(
        self,
        room: str,
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> Published:
        """Publish `message`, a JSON object with a `type` of its own, in a room; returns once it is stored.

        The same `idempotency_key` in the same room within the server's window (5 minutes) is stored once. An
        ephemeral message is delivered and not stored. `tags` are for members that joined with a filter. The connections of
        `exclude_user`, and the connection with the id `exclude_connection`, do not get it.
        """
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self._send(routes.publish(room, message, idempotency_key, options))

    def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> list[Outcome]:
        """Publish one message in up to 1000 rooms; each fails alone. Otherwise like `publish`."""
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self._send(routes.broadcast(rooms, message, idempotency_key, options))

    def rooms(self, *, prefix: str = "", limit: int = PAGE, cursor: str | None = None) -> RoomPage:
        """List up to `limit` (1000) rooms with members, by name; `cursor` is that of the page before."""
        return self._send(routes.rooms(prefix, limit, cursor))

    def room(self, room: str) -> RoomDetails:
        """Return a room's position, and its members as `users`. To look at a room does not make it."""
        return self._send(routes.room(room))

    def history(
        self, room: str, *, since: Position | None = None, limit: int | None = None, reverse: bool = False
    ) -> MessagePage:
        """Return messages of a room, the oldest first unless `reverse`; with `since`, those after that position."""
        return self._send(routes.history(room, since, limit, reverse=reverse))

    def delete_history(self, room: str) -> int:
        """Delete a room's history; returns how many messages that were. Its members stay, and offsets go on rising."""
        return self._send(routes.delete_history(room))

    def online_users(self, *, prefix: str = "", limit: int = PAGE, cursor: str | None = None) -> UserPage:
        """List up to `limit` (1000) users who are online, in whatever rooms, by id."""
        return self._send(routes.online_users(prefix, limit, cursor))

    def user(self, user_id: str) -> OnlineUser:
        """Return whether a user `is_online`, with the number of its connections."""
        return self._send(routes.user(user_id))

    def remove(self, room: str, user_id: str) -> int:
        """Remove a user from a room; returns how many connections that were. The user may join again."""
        return self._send(routes.remove(room, user_id))

    def disconnect(self, user_id: str) -> int:
        """Close all connections of a user for good (4004); returns how many those were, on all nodes."""
        return self._send(routes.disconnect(user_id))

    def revoke_token(self, jti: str, *, expires_at: float | None = None) -> Revoked:
        """Take one token back, by its `jti`: its connections are closed with 4001, and it is refused until `expires_at`.

        `expires_at` is Unix seconds, at best the token's `exp`; by default the server's `auth.revocation_seconds` from now.
        """
        return self._send(routes.revoke_token(jti, expires_at))

    def revoke_user(
        self, user_id: str, *, issued_before: float | None = None, expires_at: float | None = None
    ) -> Revoked:
        """Take the tokens of a user back, likewise: all, those issued later too, until `expires_at`.

        With `issued_before` (Unix seconds), only those whose `iat` is before it, and those without `iat`; so a user who
        has signed in anew comes in with a new token.
        """
        return self._send(routes.revoke_user(user_id, issued_before, expires_at))

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

    def _send(self, call: Call[T]) -> T:
        request = self._calls.begin(call)
        client = self._calls.client()
        while True:
            try:
                step = _attempt(client, call, request)
            except httpx2.RequestError as error:
                step = request.failed(error)
            if isinstance(step, bytes):
                return call.read(step)
            time.sleep(step.after_seconds)
            request.check_time()


def _attempt(client: httpx2.Client, call: Call[T], request: _Request) -> bytes | RetryAfter:
    ends_at = time.monotonic() + request.left_seconds()

    def left_seconds() -> float:
        return max(0.001, ends_at - time.monotonic())

    body = bytearray()
    with client.stream(
        call.method,
        call.path,
        content=call.body,
        headers=call.headers,
        extensions={"timeout": StepTimeouts(left_seconds)},
    ) as response:
        for part in response.iter_bytes():
            body += part
            # A server that sends on and on is given up as well.
            if time.monotonic() > ends_at:
                return request.timed_out()
    return request.answered(response, bytes(body))


class AsyncPublisher:
    """A `Publisher` for asyncio and trio: FastAPI, Starlette, Quart. Its calls are those of `Publisher`.

    Use it in the event loop that made it; a forked process may use it in a loop of its own. A call that is cancelled
    may or may not have been done.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        random: Random | None = None,
        clock: Clock = boot_clock,
    ) -> None:
        """See `Publisher`."""
        self._calls = _Calls(
            httpx2.AsyncClient, url, api_key, timeout_seconds=timeout_seconds, random=random, clock=clock
        )

    async def publish(
        self,
        room: str,
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> Published:
        """See `Publisher.publish`."""
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return await self._send(routes.publish(room, message, idempotency_key, options))

    async def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> list[Outcome]:
        """See `Publisher.broadcast`."""
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return await self._send(routes.broadcast(rooms, message, idempotency_key, options))

    async def rooms(self, *, prefix: str = "", limit: int = PAGE, cursor: str | None = None) -> RoomPage:
        """See `Publisher.rooms`."""
        return await self._send(routes.rooms(prefix, limit, cursor))

    async def room(self, room: str) -> RoomDetails:
        """See `Publisher.room`."""
        return await self._send(routes.room(room))

    async def history(
        self, room: str, *, since: Position | None = None, limit: int | None = None, reverse: bool = False
    ) -> MessagePage:
        """See `Publisher.history`."""
        return await self._send(routes.history(room, since, limit, reverse=reverse))

    async def delete_history(self, room: str) -> int:
        """See `Publisher.delete_history`."""
        return await self._send(routes.delete_history(room))

    async def online_users(
        self, *, prefix: str = "", limit: int = PAGE, cursor: str | None = None
    ) -> UserPage:
        """See `Publisher.online_users`."""
        return await self._send(routes.online_users(prefix, limit, cursor))

    async def user(self, user_id: str) -> OnlineUser:
        """See `Publisher.user`."""
        return await self._send(routes.user(user_id))

    async def remove(self, room: str, user_id: str) -> int:
        """See `Publisher.remove`."""
        return await self._send(routes.remove(room, user_id))

    async def disconnect(self, user_id: str) -> int:
        """See `Publisher.disconnect`."""
        return await self._send(routes.disconnect(user_id))

    async def revoke_token(self, jti: str, *, expires_at: float | None = None) -> Revoked:
        """See `Publisher.revoke_token`."""
        return await self._send(routes.revoke_token(jti, expires_at))

    async def revoke_user(
        self, user_id: str, *, issued_before: float | None = None, expires_at: float | None = None
    ) -> Revoked:
        """See `Publisher.revoke_user`."""
        return await self._send(routes.revoke_user(user_id, issued_before, expires_at))

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

    async def _send(self, call: Call[T]) -> T:
        request = self._calls.begin(call)
        client = self._calls.client()
        while True:
            try:
                step = await _attempt_async(client, call, request)
            except httpx2.RequestError as error:
                step = request.failed(error)
            if isinstance(step, bytes):
                return call.read(step)
            await anyio.sleep(step.after_seconds)
            request.check_time()


async def _attempt_async(client: httpx2.AsyncClient, call: Call[T], request: _Request) -> bytes | RetryAfter:
    with anyio.move_on_after(request.left_seconds()):
        response = await client.request(call.method, call.path, content=call.body, headers=call.headers)
        return request.answered(response, response.content)
    return request.timed_out()
