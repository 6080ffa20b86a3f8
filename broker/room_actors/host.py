"""The room that runs an application's class: its messages become turns, which are stored before anybody hears of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from actors import Batch
from broker.engine.base import Receipt
from broker.engine.room_store import Answer, StoredAnswer
from broker.errors import EngineUnavailableError, ErrorCode, RefusalReason, Refused
from broker.model import Draft, IdempotencyKey, Shown
from broker.notices import Called
from broker.room_actors.actor import RoomActor
from broker.room_actors.answer_budget import DROPPED
from broker.room_actors.drafts import draft_of, message_of
from broker.room_actors.peer_messages import GuestRequest
from broker.room_actors.results import encode_result
from broker.room_actors.runner import as_member, as_sender
from broker.room_actors.turn_host import LeaveTurn, TryAgain, TurnHost, TurnMessage
from broker.room_actors.values import Member, Message, Refusal, Task, Timer, member_of
from broker.rooms import member as rooms_member
from broker.rooms.answers import answer_published, answer_refused, answer_unavailable, reply_to
from broker.rooms.messages import Call, Join, Publish, RoomMessage, TaskEnded, TimerDue
from broker.rooms.time_slice import TIME_SLICE_SECONDS
from broker.rooms.turn_tally import TurnKind

TURNS_STORED_TOGETHER = 64
"""Most turns in one transaction. Their results wait for the last of them, so TIME_SLICE_SECONDS bounds them as well."""

FAILED = Refused(
    ErrorCode.FAILED, "the room's code failed; nothing was done", why=RefusalReason.ROOM_ACTOR_FAILED
)


class ActorHost(TurnHost):
    """A room with an application's class.

    Neighbouring turns are stored together: as one transaction, of which nobody hears before it is done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of TurnHost."""
        super().__init__(*args, **kwargs)
        self._left: list[Shown] = []
        self._put_off: list[TurnMessage] = []

    def is_idle(self) -> bool:
        """See Actor."""
        return super().is_idle() and not self._put_off

    async def receive_batch(self, batch: Batch[RoomMessage]) -> None:
        """Handle all waiting messages; neighbouring turns are stored together."""
        for message in batch:
            if isinstance(message, TurnMessage):
                await self._take_turn(message)
                is_over = trio.current_time() - self._waiting_since >= TIME_SLICE_SECONDS
                if is_over or len(self._waiting) >= TURNS_STORED_TOGETHER:
                    await self._store()
            else:
                try:
                    await self._store()
                except Exception:
                    # As in Room: it has left the mailbox.
                    await self.receive(message)  # noqa: ASYNC120  # if cancelled, that is how it ends
                    raise
                await self.receive(message)
        await self._store()
        await self._send_or_continue()

    async def receive(self, message: RoomMessage) -> None:
        """See Room; members that a message has ended have their turn of `on_leave` after it."""
        await super().receive(message)
        await self._run_leaves()

    async def _run_leaves(self) -> None:
        failure: Exception | None = None
        while self._left:
            try:
                await self._take_turn(LeaveTurn(self._left.pop(0)))
            except Exception as error:  # noqa: BLE001  # raised below
                # The others have left as well, and their turns are not lost with this one.
                failure = failure or error
                self._runner.close()
        await self._store()
        if failure is not None:
            raise failure

    def _end_membership(self, member: rooms_member.Member) -> None:
        if member in self._state.roster and member.is_visible:
            self._left.append(member.shown)
        super()._end_membership(member)

    async def _handle(self, message: RoomMessage) -> None:
        if isinstance(message, TryAgain):
            put_off, self._put_off = self._put_off, []
            for each in put_off:
                await self._take_turn(each)
            await self._store()
        else:
            await super()._handle(message)

    async def _join(self, join: Join) -> None:
        member = join.member
        if member in self._state.roster or not member.is_visible:
            await super()._join(join)
            return
        missed = await self._admit(join)
        if missed is None:
            return
        joining = as_member(member)
        try:
            await self._run(TurnKind.JOIN, lambda actor: actor.on_join(joining))
        except Refusal as refusal:
            self._run_nothing()
            await self._finish(await self._write())
            join.reply.fail(refusal.as_refused())
            return
        except EngineUnavailableError:
            raise
        except Exception:
            join.reply.fail(FAILED)
            raise
        # Stored before the member is in, and said once it is, so that it hears what its join has led to.
        done = await self._write()
        self._add(join, *missed)
        await self._finish(done)

    async def _publish(self, publishes: Sequence[Publish]) -> None:
        for publish in publishes:
            await self._take_turn(publish)
        await self._store()

    async def _take_turn(self, message: TurnMessage) -> None:
        """Run the turn of a message; its effects wait, and so does a refusal.

        :raises Exception: of the application's code: then the turns before it are stored, and the requester is answered.
        """
        try:
            await self._turn_of(message)
        except Refusal as refusal:
            refused = refusal.as_refused()
            self._run_nothing(message, lambda _receipts: self._answer_refused(message, refused))
        except EngineUnavailableError as error:
            self._answer_unavailable(message, error)
        except Exception:
            await self._store()  # noqa: ASYNC120  # if cancelled, that is how it ends
            self._answer_refused(message, FAILED)
            await self._state.fanout.send_queued()  # noqa: ASYNC120
            raise

    def _answer_refused(self, message: TurnMessage, refused: Refused) -> None:
        match message:
            case Publish() | Call():
                answer_refused(self._state, message, refused)
            case GuestRequest():
                message.refuse(refused)
            case TimerDue(reply=reply):
                # It is stored still, and tried again.
                reply.fail(FAILED)
            case TaskEnded() | LeaveTurn():
                pass

    def _answer_unavailable(self, message: TurnMessage, error: EngineUnavailableError) -> None:
        if isinstance(message, TaskEnded | LeaveTurn):
            if not self._put_off:
                self._context.tell_later(error.retry_after_ms / 1000, TryAgain())
            self._put_off.append(message)
        elif isinstance(message, GuestRequest):
            message.fail(error)
        else:
            answer_unavailable(self._state, message, error)

    async def _turn_of(self, message: TurnMessage) -> None:
        match message:
            case Publish(draft, sender):
                await self._turn_of_publish(
                    message, draft, as_sender(sender), partial(self._answer_publish, message)
                )
                await self._count_elsewhere([message])
            case Call(sender=sender):
                await self._turn_of_call(
                    message, message, as_sender(sender), partial(self._answer_call, message)
                )
            case TimerDue():
                await self._turn_of_timer(message)
            case TaskEnded(name, value, error):
                ended = Task(name, value, error)
                await self._run(TurnKind.TASK, lambda actor: actor.on_task(ended), message)
            case LeaveTurn(member):
                await self._turn_of_leave(message, member)
            case GuestRequest():
                raise AssertionError("only rooms of a shared store have guests")

    async def _turn_of_publish(
        self, message: TurnMessage, draft: Draft, sender: Member | None, answer: Callable[[Receipt], None]
    ) -> None:
        if draft.key is not None and (known := await self._recall(draft.key)) is not None:
            answer(Receipt(known.position, None))
            return
        written = message_of(draft)

        async def handle(actor: RoomActor[Any]) -> Message | None:
            passed = await actor.on_message(sender, written)
            if passed is not None:
                # Before what the turn says.
                self._runner.turn.drafts.insert(0, draft_of(passed, written, draft))
            return passed

        began = trio.current_time()

        def finish(receipts: Sequence[Receipt]) -> None:
            self._state.fanout.note_delay(1, began)
            answer(Receipt(None, None) if passed is None else receipts[0])

        passed, turn = await self._run(TurnKind.MESSAGE, handle, message, finish)
        if draft.key is not None:
            is_stored = passed is not None and not turn.drafts[0].ephemeral
            turn.answer = StoredAnswer(draft.key, draft=0 if is_stored else None)

    def _answer_publish(self, publish: Publish, receipt: Receipt) -> None:
        answer_published(self._state, [publish], [receipt])

    async def _turn_of_call(
        self,
        message: TurnMessage,
        call: Call,
        sender: Member | None,
        answer: Callable[[bytes], None],
    ) -> None:
        name, data = call.method, call.data
        # A message of the same key is another request.
        key = None if call.key is None else IdempotencyKey(call.key.scope, f"call {call.key.key}")
        if key is not None and (known := await self._recall(key)) is not None:
            if known.content == DROPPED:
                raise Refusal("done before; its answer was too large to be kept, and it is not done again")
            answer(known.content)
            return
        method = self._runner.spec.calls.get(name)

        async def handle(actor: RoomActor[Any]) -> bytes:
            if method is None:
                result = await actor.on_call(sender, name, None if data is None else msgspec.Raw(data))
            else:
                result = await method.function(actor, sender, *method.arguments(name, data))
            return encode_result(result, most_bytes=self._options.page_bytes)

        def finish(_receipts: Sequence[Receipt]) -> None:
            answer(content)

        content, turn = await self._run(TurnKind.CALL, handle, message, finish)
        if key is not None:
            turn.answer = StoredAnswer(key, self._runner.answers.kept(key, content, trio.current_time()))

    def _answer_call(self, call: Call, content: bytes) -> None:
        if call.reply is not None:
            call.reply.set(content)
        if call.sender is not None:
            reply_to(self._state, call.sender, Called(content, call.request_id))

    async def _turn_of_timer(self, due: TimerDue) -> None:
        await self._open()
        if self._runner.timers.get(due.name) != due.due_ms:
            due.reply.set(None)  # it was fired, moved or removed meanwhile
            return

        async def handle(actor: RoomActor[Any]) -> None:
            turn = self._runner.turn
            turn.timers[due.name] = None
            await actor.on_timer(Timer(due.name, (turn.now_ms - due.due_ms) / 1000))

        await self._run(TurnKind.TIMER, handle, due, lambda _receipts: _settle(due))

    async def _turn_of_leave(self, message: LeaveTurn, member: Shown) -> None:
        if any(each.shown.connection == member.connection for each in self._state.roster):
            return  # it is back, and the turn was put off
        leaving = member_of(member)
        await self._run(TurnKind.LEAVE, lambda actor: actor.on_leave(leaving), message)

    async def _recall(self, key: IdempotencyKey) -> Answer | None:
        if self._runner.is_answered_soon(key):
            await self._store()
            # If it is not known whether that was stored, it is once the room is loaded again, and not before.
            await self._open()
        return await self._runner.recall(key)


def _settle(due: TimerDue) -> None:
    due.reply.set(None)
