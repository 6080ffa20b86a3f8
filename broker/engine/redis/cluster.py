"""Questions to all nodes and their answers, over channels of one of the servers."""

from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

import attrs
import msgspec
import trio

from broker.engine.cluster import Answer, Answers, Cluster
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import parse_count
from broker.engine.redis.server import RedisServer
from broker.errors import EngineUnavailableError
from broker.log import Log

AT_ONCE = 4
MOST_WAITING = 64
"""Questions beyond these are dropped; the node that asked may ask again."""


class _Question(msgspec.Struct, frozen=True, array_like=True):
    node: str
    number: str
    content: bytes


class _Reply(msgspec.Struct, frozen=True, array_like=True):
    number: str
    content: bytes


_questions = msgspec.msgpack.Decoder(_Question)
_replies = msgspec.msgpack.Decoder(_Reply)


@attrs.frozen
class _Channel:
    """Calls `handle` with the messages of a channel; those of other programs are dropped."""

    handle: Callable[[bytes], None]

    def arrived(self, payload: bytes) -> None:
        # MemoryError: an array that announces 2**32 elements.
        with suppress(msgspec.MsgspecError, ValueError, MemoryError):
            self.handle(payload)

    def fell_behind(self) -> None:
        """See Listener: a question or answer may be lost, and the node that asked may ask again."""


@attrs.define(eq=False)
class _OpenQuestion:
    """A question without all its answers. This node receives its own question, which counts as one of the answers."""

    expected: int | None = None
    count: int = 0
    given: list[bytes] = attrs.Factory(list)
    complete: trio.Event = attrs.Factory(trio.Event)

    def check_complete(self) -> None:
        if self.expected is not None and self.count >= self.expected:
            self.complete.set()


class RedisCluster(Cluster):
    """See Cluster; `run` it in a nursery."""

    def __init__(self, server: RedisServer, keyspace: Keyspace, *, node: str, log: Log) -> None:
        self._link = server.link
        self._keyspace = keyspace
        self._node = node
        self._log = log
        self._answer: Answer | None = None
        self._open: dict[str, _OpenQuestion] = {}
        self._send, self._receive = trio.open_memory_channel[_Question](MOST_WAITING)
        server.subscriptions.keep_subscribed(keyspace.questions, _Channel(self._question_came))
        server.subscriptions.keep_subscribed(keyspace.answers(node), _Channel(self._reply_came))

    def on_question(self, answer: Answer) -> None:
        """See Cluster."""
        self._answer = answer

    async def ask(self, question: bytes, *, patience_seconds: float) -> Answers:
        """See Cluster."""
        number = token_hex(8)
        pending = self._open[number] = _OpenQuestion()
        try:
            with trio.move_on_after(patience_seconds):
                packed = msgspec.msgpack.encode(_Question(self._node, number, question))
                pending.expected = await self._publish(self._keyspace.questions, packed)
                pending.check_complete()
                await pending.complete.wait()
        finally:
            del self._open[number]
        return Answers(pending.given, max(0, (pending.expected or 0) - pending.count))

    async def run(self) -> None:
        """Answer other nodes' questions until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._answer_some)

    async def _answer_some(self) -> None:
        async for question in self._receive:
            assert self._answer is not None
            try:
                content = await self._answer(question.content)
            except Exception as error:  # noqa: BLE001  # a fault in monitoring must not end the node
                self._log.error("question failed", exc_info=error)
                continue
            if content:
                packed = msgspec.msgpack.encode(_Reply(question.number, content))
                await self._publish(self._keyspace.answers(question.node), packed)

    async def _publish(self, channel: str, payload: bytes) -> int:
        """Publish, and return how many nodes received it; 0 if it cannot be done."""
        with suppress(EngineUnavailableError):
            return await self._link.request("PUBLISH", channel, payload, parse=parse_count)
        return 0

    def _question_came(self, payload: bytes) -> None:
        question = _questions.decode(payload)
        if question.node == self._node:
            self._note(question.number, None)
        elif self._answer is not None:
            with suppress(trio.WouldBlock):
                self._send.send_nowait(question)

    def _reply_came(self, payload: bytes) -> None:
        reply = _replies.decode(payload)
        self._note(reply.number, reply.content)

    def _note(self, number: str, content: bytes | None) -> None:
        pending = self._open.get(number)
        if pending is None:
            return  # too late
        pending.count += 1
        if content is not None:
            pending.given.append(content)
        pending.check_complete()
