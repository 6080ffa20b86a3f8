"""Errors of actors; each is an `ActorError`."""


class ActorError(Exception):
    """The root of the toolkit's errors."""


class MailboxFullError(ActorError):
    """The mailbox is at its capacity; this message was not accepted."""


class ActorStoppedError(ActorError):
    """The actor has stopped or is stopping: a message was not accepted, or a question cannot be answered any more."""


class ActorFailedError(ActorError):
    """The actor raised while it held this question; `__cause__` is its exception.

    The actor itself may have been restarted: asking again is safe if the message may be handled twice.
    """


class EscalatedError(ActorError):
    """An actor failed more often than its supervisor allows; `__cause__` is its last failure."""
