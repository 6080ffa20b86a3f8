"""What can go wrong between actors; every error here is an `ActorError`."""


class ActorError(Exception):
    """The root of the toolkit's errors."""


class MailboxFullError(ActorError):
    """The mailbox holds as many messages as it may; this message was not accepted."""


class ActorStoppedError(ActorError):
    """The actor is gone or going: a message was not accepted, or a question can no longer be answered."""


class ActorFailedError(ActorError):
    """The actor raised while it held this question; `__cause__` is what it raised.

    The actor itself may have been restarted and be well: asking again is safe if the message is.
    """


class EscalatedError(ActorError):
    """An actor failed more often than its supervisor allows; `__cause__` is its last failure."""
