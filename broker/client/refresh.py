"""Replaces the token of a connection before it expires, so that nobody is told that its user left and came."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from random import Random

import anyio
import attrs

from broker.client.backoff import backoff_seconds
from broker.client.effects import Refreshed
from broker.client.token import clean_token, expiry_of
from broker.client.wire import write_message

ANSWER_SECONDS = 10.0
"""How long an answer may take; a refresh that is refused (`rate_limited`) is answered by no `refreshed`."""
SOONEST_SECONDS = 1.0
"""Least delay of a refresh: a token that holds for less comes from an issuer with another clock."""


@attrs.define
class Refresh:
    """The refreshes of one connection."""

    _get_token: Callable[[], Awaitable[str]]
    """Gets a token; raises OSError if there is none now."""
    _send: Callable[[str], None]
    _random: Random
    _answer: Refreshed | None = None
    _answered: anyio.Event = attrs.Factory(anyio.Event)

    def answered(self, answer: Refreshed) -> None:
        """Handle the server's answer."""
        self._answer = answer
        self._answered.set()

    async def run(self, token: str) -> None:
        """Replace `token`, with which the connection was made, and each that follows; returns after one that does not expire.

        The server says how long a token holds, as the clock of this machine may be wrong.

        :raises Exception: whatever getting a token raises, OSError excepted.
        """
        expires_at = 0.0
        while True:
            answer = await self._submit(token)
            if answer is not None:
                if answer.expires_at is None or answer.seconds_left is None:
                    return
                expires_at = answer.expires_at
                # Not all at once, and with time left for some attempts.
                share = self._random.uniform(0.75, 0.85)
                await anyio.sleep(max(SOONEST_SECONDS, answer.seconds_left * share))
            token = await self._better_token(expires_at)

    async def _submit(self, token: str) -> Refreshed | None:
        """Send a token; returns the answer, None if there is none in time."""
        self._answer, self._answered = None, anyio.Event()
        self._send(write_message({"type": "refresh", "token": token, "id": 0}))
        with anyio.move_on_after(ANSWER_SECONDS):
            await self._answered.wait()
        return self._answer

    async def _better_token(self, expires_at: float) -> str:
        """Get a token that holds for longer; another would end the connection once the server finds it expired."""
        for attempt in count():
            # ValueError: it cannot be read.
            with suppress(OSError, ValueError):
                token = clean_token(await self._get_token())
                if token is not None and expiry_of(token) > expires_at:
                    return token
            await anyio.sleep(backoff_seconds(attempt, self._random, 0.0))
        raise AssertionError
