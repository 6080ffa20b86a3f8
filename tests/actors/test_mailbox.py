"""The mailbox against a plain deque, and what its callers may rely on."""

from collections import deque
from typing import TypeAlias

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actors import ActorStoppedError, Batch, Mailbox, MailboxFullError

Step: TypeAlias = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "put_nowait",
                "put_nowait",
                "put_always",
                "put",
                "put",
                "put",
                "take",
                "take",
                "batch",
                "batch",
                "cancel a put",
                "cancel a wait",
                "cancel a wait that has its message",
                "close",
                "discard",
            ]
        ),
        st.integers(0, 6),
    ),
    max_size=40,
)


@attrs.define(eq=False)
class Sender:
    """A task that puts one message, and what became of it."""

    message: int
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    outcome: str = "waiting"


class Model:
    """A mailbox beside the deque it must be equal to, after every step."""

    def __init__(self, capacity: int, nursery: trio.Nursery) -> None:
        self.mailbox: Mailbox[int] = Mailbox(capacity, name="inbox")
        self.capacity = capacity
        self.nursery = nursery
        self.waiting: deque[int] = deque()
        self.senders: list[Sender] = []  # blocked, the one that waits longest first
        self.newly_accepted: list[int] = []
        self.accepted = 0
        self.next_message = 0
        self.is_closed = False

    async def step(self, kind: str, amount: int) -> None:
        self.next_message += 1
        await getattr(self, "_" + kind.replace(" ", "_"))(amount)
        await wait_all_tasks_blocked()
        self._settle_senders()
        statistics = self.mailbox.statistics()
        assert statistics.waiting == len(self.waiting)
        assert statistics.capacity == self.capacity
        assert statistics.senders_waiting == len(self.senders)
        assert statistics.accepted == self.accepted
        assert statistics.is_closed == self.is_closed == self.mailbox.is_closed

    def _settle_senders(self) -> None:
        """Let the blocked senders that must have got through by now through, and no others."""
        free = max(0, self.capacity - len(self.waiting)) if not self.is_closed else 0
        let_in, still_blocked = self.senders[:free], self.senders[free:]
        if self.is_closed:
            assert [sender.outcome for sender in self.senders] == ["stopped"] * len(self.senders)
            self.senders = []
            return
        assert [sender.outcome for sender in let_in] == ["accepted"] * len(let_in)
        assert [sender.outcome for sender in still_blocked] == ["waiting"] * len(still_blocked)
        assert sorted(self.newly_accepted) == sorted(sender.message for sender in let_in)
        self._accept(*self.newly_accepted)
        self.newly_accepted = []
        self.senders = still_blocked

    def _accept(self, *messages: int) -> None:
        self.waiting.extend(messages)
        self.accepted += len(messages)

    async def _put_nowait(self, _amount: int) -> None:
        if self.is_closed:
            with pytest.raises(ActorStoppedError, match="inbox has stopped"):
                self.mailbox.put_nowait(self.next_message)
        elif len(self.waiting) >= self.capacity:
            with pytest.raises(MailboxFullError, match=f"inbox is full \\({self.capacity} messages"):
                self.mailbox.put_nowait(self.next_message)
        else:
            self.mailbox.put_nowait(self.next_message)
            self._accept(self.next_message)

    async def _put_always(self, _amount: int) -> None:
        if self.is_closed:
            with pytest.raises(ActorStoppedError):
                self.mailbox.put_always(self.next_message)
        else:
            self.mailbox.put_always(self.next_message)
            self._accept(self.next_message)

    async def _put(self, _amount: int) -> None:
        sender = Sender(self.next_message)
        self.senders.append(sender)
        self.nursery.start_soon(self._send, sender)

    async def _send(self, sender: Sender) -> None:
        with sender.scope:
            try:
                await self.mailbox.put(sender.message)
            except ActorStoppedError:
                sender.outcome = "stopped"
            else:
                sender.outcome = "accepted"
                self.newly_accepted.append(sender.message)
        if sender.scope.cancelled_caught:
            sender.outcome = "cancelled"

    async def _cancel_a_put(self, amount: int) -> None:
        if self.senders:
            sender = self.senders.pop(amount % len(self.senders))
            sender.scope.cancel()
            await wait_all_tasks_blocked()
            assert sender.outcome == "cancelled"

    async def _take(self, _amount: int) -> None:
        if self.waiting:
            assert self.mailbox.get_nowait() == self.waiting.popleft()
            return
        with pytest.raises(trio.EndOfChannel if self.is_closed else trio.WouldBlock):
            self.mailbox.get_nowait()

    async def _batch(self, amount: int) -> None:
        if self.waiting:
            batch = await self.mailbox.wait_batch()
            assert len(batch) == len(self.waiting)
            for _, message in zip(range(amount), batch, strict=False):
                # zip asks its first argument first, so nothing is taken and thrown away.
                assert message == self.waiting.popleft()
            assert len(batch) == len(self.waiting)
        elif self.is_closed:
            with pytest.raises(trio.EndOfChannel):
                await self.mailbox.wait_batch()

    async def _cancel_a_wait(self, _amount: int) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await self.mailbox.wait_batch()
        assert scope.cancelled_caught

    async def _cancel_a_wait_that_has_its_message(self, _amount: int) -> None:
        if self.waiting or self.is_closed:
            return
        with trio.CancelScope() as scope:
            self.nursery.start_soon(self._deliver_then_cancel, scope)
            await self.mailbox.wait_batch()

    async def _deliver_then_cancel(self, scope: trio.CancelScope) -> None:
        self.mailbox.put_nowait(self.next_message)
        self._accept(self.next_message)
        scope.cancel()

    async def _close(self, _amount: int) -> None:
        self.mailbox.close()
        self.is_closed = True

    async def _discard(self, _amount: int) -> None:
        assert self.mailbox.discard() == len(self.waiting)
        self.waiting.clear()
        self.is_closed = True


@given(capacity=st.integers(1, 4), steps=STEPS)
async def test_it_behaves_as_a_bounded_deque(capacity: int, steps: list[Step]) -> None:
    async with trio.open_nursery() as nursery:
        model = Model(capacity, nursery)
        for kind, amount in steps:
            await model.step(kind, amount)
        await model.step("discard", 0)


def test_a_mailbox_must_hold_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Mailbox[int](0)


def test_a_mailbox_that_is_full_and_closed_says_that_it_is_closed() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.put_nowait(1)
    mailbox.close()
    with pytest.raises(ActorStoppedError):
        mailbox.put_nowait(2)


async def test_a_batch_has_the_messages_that_waited_when_it_was_made() -> None:
    mailbox: Mailbox[str] = Mailbox(10)
    mailbox.put_nowait("a")
    batch = await mailbox.wait_batch()
    mailbox.put_nowait("b")
    assert list(batch) == ["a"]
    assert list(await mailbox.wait_batch()) == ["b"]


async def test_all_kinds_of_put_keep_their_order() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    mailbox.put_nowait(1)
    await mailbox.put(2)
    mailbox.put_always(3)
    assert list(await mailbox.wait_batch()) == [1, 2, 3]


async def test_a_batch_in_hand_makes_space_message_by_message() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.put_nowait(1)
    batch = await mailbox.wait_batch()
    with pytest.raises(MailboxFullError):
        mailbox.put_nowait(2)
    assert next(batch) == 1
    mailbox.put_nowait(2)


async def test_a_sender_that_was_overtaken_waits_on_and_gets_through() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, "patient")
        await wait_all_tasks_blocked()
        assert mailbox.get_nowait() == "first"
        mailbox.put_nowait("pushy")  # before the woken sender could run
        await wait_all_tasks_blocked()
        assert mailbox.statistics().senders_waiting == 1
        assert mailbox.get_nowait() == "pushy"
    assert mailbox.get_nowait() == "patient"


async def test_blocked_senders_keep_their_turn_when_the_mailbox_was_overfilled() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        for name in ("early", "late"):
            nursery.start_soon(mailbox.put, name)
            await wait_all_tasks_blocked()
        mailbox.put_always("extra")
        for expected in ("first", "extra", "early", "late"):
            assert mailbox.get_nowait() == expected
            await wait_all_tasks_blocked()


@pytest.mark.parametrize("is_cancelled_first", [True, False])
async def test_a_sender_cancelled_as_space_appears_is_either_cancelled_or_accepted(
    is_cancelled_first: bool,
) -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.put_nowait("first")
    scope = trio.CancelScope()

    async def send() -> None:
        with scope:
            await mailbox.put("second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if is_cancelled_first:
            scope.cancel()
        assert mailbox.get_nowait() == "first"
        scope.cancel()
    assert scope.cancelled_caught == is_cancelled_first
    mailbox.put_always("third")
    expected = ["third"] if is_cancelled_first else ["second", "third"]
    assert list(await mailbox.wait_batch()) == expected


async def test_closing_wakes_the_reader() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.EndOfChannel):
                await mailbox.wait_batch()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.close()


async def test_a_message_discarded_on_its_way_to_the_reader_is_not_handed_out() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.EndOfChannel):
                await mailbox.wait_batch()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.put_nowait(1)
        assert mailbox.discard() == 1
    with pytest.raises(trio.EndOfChannel):
        mailbox.get_nowait()


async def test_put_and_wait_batch_are_always_checkpoints() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    with assert_checkpoints():
        await mailbox.put(1)
    with assert_checkpoints():
        await mailbox.wait_batch()
    with assert_checkpoints():
        batch: Batch[int] = await mailbox.wait_batch()
    assert list(batch) == [1]
