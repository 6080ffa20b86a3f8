"""The store of rooms with code in Redis, which all nodes share: each room has one owner, with a fencing number.

A room's state, its timers and its answers are on the server of its events, and every script checks there that the node
and its fencing number are those of the owner. The number is new with each `load`, so that a script which was sent before
and is executed late stores nothing either.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec
import trio

from broker.engine.base import Receipt, Retention
from broker.engine.redis.append_head import UNTOUCHED_MS, AppendHead
from broker.engine.redis.keyspace import Keyspace, RoomKeys, room_of, tag_of
from broker.engine.redis.replies import pack_header, parse_count
from broker.engine.redis.room_replies import parse_answer, parse_claim, parse_peek, parse_stored, parse_timers
from broker.engine.redis.scripts import Scripts
from broker.engine.redis.server import RedisServer
from broker.engine.room_store import (
    Answer,
    DueTimer,
    Move,
    OwnedElsewhereError,
    OwnershipLostError,
    RoomStore,
    StoredRoom,
    StoredState,
    StoredTurn,
    drafts_of,
    receipts_by_turn,
)
from broker.errors import EngineTrouble, EngineUnavailableError
from broker.model import Draft, IdempotencyKey

STATELESS_MS = 86_400_000
"""Time since the latest turn after which a room without state and timers has no owner any more."""
MOST_PASSED_OVER = 4096
"""Timers of rooms of other nodes that one script looks at; those behind them come once these have had their turn."""


class RedisRoomStore(RoomStore):
    """See RoomStore; made by RedisEngine."""

    def __init__(
        self,
        servers: Sequence[RedisServer],
        place: Callable[[str], tuple[RedisServer, RoomKeys]],
        scripts: Scripts,
        keyspace: Keyspace,
        append_head: AppendHead,
        *,
        node: str,
        lease_seconds: float,
        now_ms: Callable[[], int],
        has_queues: bool,
        count: Callable[[Sequence[Draft]], None],
    ) -> None:
        """`place` returns the server and the keys of a room; `count` is called with the drafts that were stored."""
        self._servers = servers
        self._place = place
        self._scripts = scripts
        self._store = scripts.room_store_and_tell if has_queues else scripts.room_store
        self._keyspace = keyspace
        self._append_head = append_head
        self._node = node
        self._lease_ms = int(lease_seconds * 1000)
        self._now_ms = now_ms
        self._count = count
        self._fences: dict[str, int] = {}
        self._moves: Counter[Move] = Counter()

    @property
    def is_shared(self) -> bool:
        """See RoomStore."""
        return True

    @property
    def moves(self) -> Mapping[Move, int]:
        """See RoomStore."""
        return self._moves

    def now_ms(self) -> int:
        """See RoomStore."""
        return self._now_ms()

    async def load(self, room: str) -> StoredRoom:
        """See RoomStore."""
        server, keys = self._place(room)
        self._fences.pop(room, None)
        # Before the first heartbeat this node is not alive.
        await server.heartbeat.wait_first()
        claim = await self._scripts.room_load.run(
            server.link,
            (keys.code, keys.timers, self._keyspace.alive),
            *(self._node, self._lease_ms, STATELESS_MS),
            parse=parse_claim,
        )
        if claim is None:
            raise EngineUnavailableError("this node's lease has run out", trouble=EngineTrouble.UNREACHABLE)
        if isinstance(claim, str):
            raise OwnedElsewhereError(claim)
        self._fences[room] = claim.fence
        if claim.move is not None:
            self._moves[claim.move] += 1
        return claim.room

    async def peek(self, room: str) -> StoredRoom:
        """See RoomStore."""
        server, keys = self._place(room)
        return await self._scripts.room_peek.run(
            server.link, (keys.code, keys.timers, self._keyspace.alive), self._lease_ms, parse=parse_peek
        )

    async def release(self, room: str) -> None:
        """See RoomStore."""
        fence = self._fences.pop(room, None)
        if fence is None:
            return
        server, keys = self._place(room)
        await self._scripts.room_release.run(
            server.link,
            (keys.code, keys.timers),
            *(self._node, fence, UNTOUCHED_MS),
            parse=parse_count,
        )

    async def recall(self, room: str, key: IdempotencyKey) -> Answer | None:
        """See RoomStore."""
        server, keys = self._place(room)
        return await server.link.request(
            "GET", keys.answer(key), parse=partial(parse_answer, now_ms=self._now_ms())
        )

    async def store(
        self,
        room: str,
        turns: Sequence[StoredTurn],
        state: StoredState | None,
        retention: Retention,
        *,
        is_state_changed: bool,
    ) -> Sequence[Sequence[Receipt]]:
        """See RoomStore. If it is unavailable, the turns may be stored all the same, as by `Engine.append`."""
        fence = self._fences.get(room)
        if fence is None:
            raise OwnershipLostError
        server, keys = self._place(room)
        drafts, now_ms = drafts_of(turns), self._now_ms()
        answers = [turn.answer for turn in turns if turn.answer is not None]
        receipts = await self._store.run(
            server.link,
            (
                *(keys.meta, keys.stream, keys.code, keys.timers, self._keyspace.timers),
                *(keys.answer(answer.key) for answer in answers),
            ),
            *self._append_head.make(room, keys, drafts, retention, now_ms),
            *(self._node, fence),
            *_state_arguments(state, is_changed=is_state_changed),
            *_draft_arguments(drafts),
            *_timer_arguments(room, turns),
            *_answer_arguments(turns),
            STATELESS_MS,
            parse=partial(parse_stored, drafts=drafts, now_ms=now_ms),
        )
        if receipts is None:
            # Not one that was loaded again meanwhile.
            if self._fences.get(room) == fence:
                del self._fences[room]
            raise OwnershipLostError
        self._count(drafts)
        return receipts_by_turn(turns, receipts)

    async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
        """See RoomStore; of the servers that can be read, as the rooms of the others have no turns anyway."""
        found: list[DueTimer] = []
        failures: list[EngineUnavailableError] = []

        async def read(server: RedisServer) -> None:
            try:
                found.extend(await self._read_timers(server, limit))
            except EngineUnavailableError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for server in self._servers:
                nursery.start_soon(read, server)
        if len(failures) == len(self._servers):
            raise failures[0]
        return sorted(found, key=lambda timer: timer.due_ms)[:limit]

    async def _read_timers(self, server: RedisServer, limit: int) -> list[DueTimer]:
        return await self._scripts.room_timers.run(
            server.link,
            (self._keyspace.timers, self._keyspace.alive),
            *(self._node, self._lease_ms, limit, limit + MOST_PASSED_OVER, self._keyspace.prefix),
            parse=partial(parse_timers, room_of=room_of),
        )


def _state_arguments(state: StoredState | None, *, is_changed: bool) -> tuple[str | bytes | int, ...]:
    if not is_changed:
        return ("keep", "", "", "")
    if state is None:
        return ("delete", "", "", "")
    return ("replace", state.class_name, state.version, state.content)


def _draft_arguments(drafts: Sequence[Draft]) -> Iterator[str | bytes | int]:
    yield len(drafts)
    for draft in drafts:
        yield from (int(draft.ephemeral), draft.content, pack_header(draft.header))


def _timer_arguments(room: str, turns: Sequence[StoredTurn]) -> Iterator[str | bytes | int]:
    changes = {name: due_ms for turn in turns for name, due_ms in turn.timers.items()}
    yield len(changes)
    for name, due_ms in changes.items():
        member = msgspec.msgpack.encode((tag_of(room), name))
        yield from (name, "" if due_ms is None else due_ms, member)


def _answer_arguments(turns: Sequence[StoredTurn]) -> Iterator[str | bytes | int]:
    before = 0
    for turn in turns:
        answer = turn.answer
        if answer is not None:
            yield from (0 if answer.draft is None else before + answer.draft + 1, answer.content)
        before += len(turn.drafts)
