"""The handle of an actor, through which others send it messages."""

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import trio

from actors.errors import ActorFailedError, ActorStoppedError
from actors.mailbox import Mailbox, MailboxStatistics
from actors.reply import Reply

M = TypeVar("M")
R = TypeVar("R")


@attrs.frozen
class RefStatistics:
    """A snapshot of an actor, seen from outside."""

    name: str
    mailbox: MailboxStatistics
    open_replies: int
    """Questions accepted and not yet answered."""
    restarts: int
    """Restarts after failures."""
    is_stopped: bool
    """Whether its task has ended."""


class Ref(Generic[M]):
    """Sends messages to one actor, across its restarts.

    Messages of one sender arrive in the order in which they were accepted. A message that makes the actor
    raise is dropped; the ones behind it are handled by the restarted actor.
    """

    def __init__(self, name: str, mailbox: Mailbox[M], lifetime: "_Lifetime") -> None:
        """For `RefOwner`, which is how Refs are made."""
        self.name = name
        self._mailbox = mailbox
        self._replies = lifetime.replies
        self._lifetime = lifetime

    def __repr__(self) -> str:
        return f"<Ref {self.name}>"

    @property
    def is_stopping(self) -> bool:
        """Whether new messages are refused."""
        return self._mailbox.is_closed

    @property
    def has_open_replies(self) -> bool:
        """Whether a question is still unanswered."""
        return bool(self._replies)

    def tell_nowait(self, message: M) -> None:
        """Send at once.

        :raises MailboxFullError: if the mailbox is full.
        :raises ActorStoppedError: if the actor has stopped or is stopping.
        """
        self._mailbox.put_nowait(message)

    async def tell(self, message: M) -> None:
        """Send, after waiting for space in the mailbox if need be; always a checkpoint.

        If cancelled, the message was not accepted.

        :raises ActorStoppedError: if the actor has stopped or is stopping.
        """
        await self._mailbox.put(message)

    def tell_always(self, message: M) -> None:
        """Send at once even when the mailbox is full: for messages whose number is bounded elsewhere.

        :raises ActorStoppedError: if the actor has stopped or is stopping.
        """
        self._mailbox.put_always(message)

    async def ask(self, make_message: Callable[[Reply[R]], M]) -> R:
        """Send a question and wait for its answer.

        `make_message` puts the given Reply into the message. An ask never waits for a stopped actor, but for
        ever for one that does not answer, such as the asking actor itself. If cancelled, the message may or may not
        be handled, and its answer is dropped.

        :raises ActorStoppedError: if the actor stops before it answers, or did not accept the message;
            `Registry.ask` tells the two apart.
        :raises ActorFailedError: if the actor raised while it held the question.
        :raises Exception: the error that the actor failed the reply with.
        """
        reply: Reply[R] = Reply()
        await self._mailbox.put(make_message(reply))
        return await self.wait_reply(reply)

    async def wait_reply(self, reply: Reply[R]) -> R:
        """Wait for the answer to the message that was put last; the second half of `ask`.

        Call it without a checkpoint after the put: the reply is watched only from here on.

        :raises Exception: as `ask`.
        """
        self.watch(reply)
        try:
            return await reply.wait()
        finally:
            self.unwatch(reply)

    def watch(self, reply: Reply[R]) -> None:
        """Fail a reply if the actor fails or stops before it answers the message that was put last; until `unwatch`.

        For asking without waiting. Call it without a checkpoint after the put.
        """
        self._replies[reply] = self._mailbox.last_number  # type: ignore[index]  # R is an object
        if self._lifetime.stopped.is_set():
            reply.fail(_stopped_error(self.name))

    def unwatch(self, reply: Reply[R]) -> None:
        """Undo `watch`."""
        del self._replies[reply]  # type: ignore[arg-type]

    def stop_nowait(self) -> None:
        """Let the actor handle the waiting messages and then stop; new ones are refused at once."""
        self._mailbox.close()

    async def stop(self) -> None:
        """Stop as `stop_nowait` does, and wait until it has; if cancelled, it stops all the same."""
        self.stop_nowait()
        await self._lifetime.stopped.wait()

    async def wait_stopped(self) -> None:
        """Wait until the actor's task has ended."""
        await self._lifetime.stopped.wait()

    def statistics(self) -> RefStatistics:
        """Return a snapshot."""
        return RefStatistics(
            name=self.name,
            mailbox=self._mailbox.statistics(),
            open_replies=len(self._replies),
            restarts=self._lifetime.restarts,
            is_stopped=self._lifetime.stopped.is_set(),
        )


@attrs.define(eq=False)
class _Lifetime:
    """The part of an actor's state that its RefOwner writes and its Ref reads."""

    replies: dict[Reply[object], int] = attrs.Factory(dict)
    """Each open question with the number of its message in the mailbox."""
    stopped: trio.Event = attrs.Factory(trio.Event)
    restarts: int = 0


class RefOwner(Generic[M]):
    """The supervisor's half of a Ref: makes it, and records failures, restarts and the end of the actor."""

    def __init__(self, name: str, mailbox: Mailbox[M]) -> None:
        self._mailbox = mailbox
        self._lifetime = _Lifetime()
        self.ref: Ref[M] = Ref(name, mailbox, self._lifetime)

    def record_failure(self, error: Exception) -> None:
        """Fail the questions that the failed actor held; those still in the mailbox wait for its restart."""
        for reply, number in self._lifetime.replies.items():
            if number <= self._mailbox.handed_out:
                failure = ActorFailedError(f"{self.ref.name} failed: {error!r}")
                failure.__cause__ = error
                reply.fail(failure)

    def record_restart(self) -> None:
        """Count a restart."""
        self._lifetime.restarts += 1

    def record_stop(self) -> None:
        """Refuse new messages, drop the waiting ones, and fail all open questions."""
        self._mailbox.discard()
        for reply in self._lifetime.replies:
            reply.fail(_stopped_error(self.ref.name))
        self._lifetime.stopped.set()


def _stopped_error(name: str) -> ActorStoppedError:
    return ActorStoppedError(f"{name} has stopped")
