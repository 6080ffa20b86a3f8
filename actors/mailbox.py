"""A bounded mailbox on a trio memory channel, read in batches.

A hop through a memory channel costs some ten microseconds when it wakes a task for each message, and
well under one when all waiting messages are read at once. So the reader is woken once and gets a `Batch`:
an iterator over the waiting messages. A message leaves the mailbox when the iterator returns it, so those that a
failing reader did not reach stay for its successor.

The channel itself is unbounded and the bound is kept here, because some messages must neither wait nor be
refused: those are sent with `put_always`. Their number is bounded elsewhere (one leave for each member), and
one channel keeps them in order with the rest.

A reader may lend its turn: while it sleeps and nothing waits, a message is handed to its `receive_nowait` on the
sender's stack, which spares two switches of tasks. A turn is borrowed from the reader, never taken beside it: during
a borrowed turn nothing is lent, and messages wait in the mailbox as ever.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Generic, TypeVar, cast

import attrs
import trio

from actors.errors import ActorStoppedError, MailboxFullError

M = TypeVar("M")

_FAILURE: Final = object()
"""Wakes the reader after a borrowed turn that raised; never counted as a message."""


@attrs.frozen
class MailboxStatistics:
    """A snapshot of a mailbox."""

    waiting: int
    """Messages accepted and not yet handed to the actor."""
    capacity: int
    """Number of waiting messages at which `put` waits."""
    senders_waiting: int
    """Tasks blocked in `put`."""
    accepted: int
    """Messages accepted since the mailbox was made."""
    is_closed: bool
    """Whether new messages are refused."""


class Mailbox(Generic[M]):
    """A bounded first-in first-out queue for one reader and any number of senders."""

    def __init__(self, capacity: int, *, name: str = "actor") -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.capacity = capacity
        self.accepted = 0
        self.handed_out = 0
        self.last_number = 0
        """The number, among all accepted, of the message that was put last."""
        self._name = name
        self._sender, self._receiver = trio.open_memory_channel[M | object](math.inf)
        self._head: list[M] = []  # the one message that a wait for the channel returned
        # Set while the reader sleeps, nothing waits and no turn is borrowed; so a call needs no further check.
        self._lent: Callable[[M], bool] | None = None
        self._failure: Exception | None = None  # of a borrowed turn, on its way to the reader
        self._space = trio.lowlevel.ParkingLot()
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Messages accepted and not yet handed out."""
        return self.accepted - self.handed_out

    @property
    def is_closed(self) -> bool:
        """Whether new messages are refused."""
        return self._is_closed

    def put_nowait(self, message: M) -> None:
        """Accept a message at once.

        :raises MailboxFullError: if `capacity` messages wait.
        :raises ActorStoppedError: if the mailbox is closed.
        """
        if self._lent is not None and self._borrow_turn(self._lent, message):
            return
        if self.accepted - self.handed_out >= self.capacity:
            if self._is_closed:
                raise self._stopped()
            raise MailboxFullError(f"mailbox of {self._name} is full ({self.capacity} messages)")
        self._put(message)

    def put_always(self, message: M) -> None:
        """Accept a message even when the mailbox is full.

        For messages whose number is bounded by something else.

        :raises ActorStoppedError: if the mailbox is closed.
        """
        if self._lent is not None and self._borrow_turn(self._lent, message):
            return
        self._put(message)

    def _put(self, message: M) -> None:
        if self._is_closed:
            raise self._stopped()
        self._lent = None
        self._sender.send_nowait(message)
        self.accepted += 1
        self.last_number = self.accepted

    def _borrow_turn(self, receive_nowait: Callable[[M], bool], message: M) -> bool:
        """Have the sleeping reader handle a message now; False if it did nothing and wants it in the mailbox."""
        self._lent = None
        self.accepted += 1
        self.handed_out += 1
        number = self.accepted
        is_taken = True
        try:
            is_taken = receive_nowait(message)
        except Exception as error:  # noqa: BLE001  # the reader's own: the sender has done nothing wrong
            self._failure = error
            if not self._is_closed:
                self._sender.send_nowait(_FAILURE)
            return True
        finally:
            self.last_number = number  # whatever the turn itself has sent
            if not is_taken:
                self.accepted -= 1
                self.handed_out -= 1
        if not self._is_closed and self.accepted == self.handed_out:
            self._lent = receive_nowait
        return is_taken

    async def put(self, message: M) -> None:
        """Accept a message, after waiting for space if need be; always a checkpoint.

        One sender's messages keep their order. If cancelled, the message was not accepted.

        :raises ActorStoppedError: if the mailbox is closed, also while waiting.
        """
        await trio.lowlevel.checkpoint()
        while self.waiting >= self.capacity and not self._is_closed:
            await self._space.park()
        self.put_always(message)

    async def wait_batch(self, receive_nowait: Callable[[M], bool] | None = None) -> "Batch[M]":
        """Wait for messages, and return an iterator over them; always a checkpoint.

        While this waits, senders may borrow the turn: `receive_nowait` handles a message at once, or does nothing and
        returns False. If cancelled, no message is lost.

        :raises trio.EndOfChannel: if the mailbox is closed and empty.
        :raises Exception: what `receive_nowait` raised.
        """
        if self._head:
            await trio.lowlevel.checkpoint()
            return Batch(self)
        if not self.waiting:
            self._lent = receive_nowait
        try:
            message = await self._receive()
        finally:
            self._lent = None
        if not self.waiting:
            raise trio.EndOfChannel  # discarded while this task was being woken
        self._head.append(cast("M", message))
        return Batch(self)

    async def _receive(self) -> M | object:
        """Wait for a message. The failure of a borrowed turn comes first, and ends this incarnation of the reader."""
        while True:
            try:
                message = await self._receiver.receive()
            except (trio.EndOfChannel, trio.Cancelled):
                self._raise_failure()
                raise
            if message is _FAILURE:
                self._raise_failure()
            elif self._failure is not None:
                # Sent by the turn itself before it raised: for the next incarnation.
                self._head.append(cast("M", message))
                self._raise_failure()
            else:
                return message

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def get_nowait(self) -> M:
        """Return the oldest message.

        :raises trio.WouldBlock: if there is none.
        :raises trio.EndOfChannel: if the mailbox is closed and empty.
        """
        message = self._head.pop() if self._head else self._receiver.receive_nowait()
        while message is _FAILURE:
            message = self._receiver.receive_nowait()
        self.handed_out += 1
        if self._space and self.waiting < self.capacity:
            self._space.unpark()
        return cast("M", message)

    def close(self) -> None:
        """Refuse new messages from now on; waiting ones can still be read."""
        self._is_closed = True
        self._lent = None
        self._sender.close()
        self._space.unpark_all()

    def discard(self) -> int:
        """Close, and drop the waiting messages; returns their number."""
        self.close()
        dropped = self.waiting
        self.handed_out = self.accepted
        self._head.clear()
        with suppress(trio.EndOfChannel):
            while True:
                self._receiver.receive_nowait()
        return dropped

    def statistics(self) -> MailboxStatistics:
        """Return a snapshot."""
        return MailboxStatistics(
            waiting=self.waiting,
            capacity=self.capacity,
            senders_waiting=len(self._space),
            accepted=self.accepted,
            is_closed=self._is_closed,
        )

    def _stopped(self) -> ActorStoppedError:
        return ActorStoppedError(f"{self._name} has stopped")


class Batch(Generic[M], Iterator[M]):
    """The messages waiting in a mailbox at one moment; each leaves the mailbox when it is returned."""

    def __init__(self, mailbox: Mailbox[M]) -> None:
        self._mailbox = mailbox
        self._left = mailbox.waiting

    def __len__(self) -> int:
        """Return the number of messages left."""
        return self._left

    def include_new(self) -> None:
        """Include the messages that have come since, as after a wait."""
        self._left = self._mailbox.waiting

    def __next__(self) -> M:
        """Return the next message."""
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._mailbox.get_nowait()
