"""Revocations of tokens in Redis, on the server with the channel of all nodes."""

from collections.abc import Sequence

import msgspec
import trio

from broker.auth.revocations import Revocation
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import parse_count, parse_scores
from broker.engine.redis.scripts import Script
from broker.engine.redis.server import RedisServer
from broker.engine.revocations import OnRevocation, RevocationStore

MADE_PER_TURN = 1000
"""Revocations that are made of a reply without a pause."""

_messages = msgspec.msgpack.Decoder(tuple[str, float, float | None])


def _pack(revocation: Revocation) -> bytes:
    return msgspec.msgpack.encode((revocation.key, revocation.expires_at, revocation.issued_before))


def _parse(payload: bytes) -> Revocation:
    """Parse the message of a revocation.

    :raises ValueError: if it is none.
    """
    try:
        return Revocation.of_key(*_messages.decode(payload))
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


class RedisRevocations(RevocationStore):
    """See RevocationStore. Also the listener on the channel of revocations."""

    def __init__(self, server: RedisServer, script: Script, keyspace: Keyspace) -> None:
        self._server = server
        self._script = script
        self._keyspace = keyspace
        self._listener: OnRevocation = lambda _revocation: None
        server.subscriptions.keep_subscribed(keyspace.revocations_channel, self)

    def on_revocation(self, listener: OnRevocation) -> None:
        """See RevocationStore."""
        self._listener = listener

    async def store(self, revocation: Revocation, *, now: float) -> None:
        """See RevocationStore."""
        issued_before = "" if revocation.issued_before is None else repr(revocation.issued_before)
        await self._script.run(
            self._server.link,
            (self._keyspace.revocations, self._keyspace.revocations_issued),
            *(revocation.key, repr(revocation.expires_at), issued_before, repr(now)),
            *(self._keyspace.revocations_channel, _pack(revocation)),
            parse=parse_count,
        )

    async def read(self, *, now: float) -> Sequence[Revocation]:
        """See RevocationStore."""
        request, keyspace = self._server.link.request, self._keyspace
        expiries = await request(
            *("ZRANGEBYSCORE", keyspace.revocations, f"({now!r}", "+inf", "WITHSCORES"), parse=parse_scores
        )
        # Read later, so that each that is needed is here: both are written in one script.
        issued = await request(
            *("ZRANGE", keyspace.revocations_issued, 0, -1, "WITHSCORES"), parse=parse_scores
        )
        found = []
        for number, (key, expires_at) in enumerate(expiries.items(), 1):
            if number % MADE_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            try:
                found.append(Revocation.of_key(key, expires_at, issued.get(key)))
            except ValueError:
                # It has run out between the two requests, or is of a kind of a later version.
                continue
        return found

    def arrived(self, payload: bytes) -> None:
        """See Listener: some node has stored one."""
        try:
            revocation = _parse(payload)
        except ValueError:
            self._listener(None)  # published by another program, or by a later version
        else:
            self._listener(revocation)

    def fell_behind(self) -> None:
        """See Listener."""
        self._listener(None)
