"""What can go wrong for a client; all share `ClientError`."""

from broker.errors import GreenroomError

NO_CODE = 1006
"""What a connection that ended without a close frame is said to have been closed with (RFC 6455 7.1.5)."""


class ClientError(GreenroomError):
    """The root of what a client or a publisher raises."""


class NotSentError(ClientError, ValueError):
    """An argument, or what the environment says, does not let anything be sent; nothing was."""


class AddressError(NotSentError):
    """What was given as the server's address is none."""


class ClosedError(ClientError):
    """The client is over: the server does not want it back, or it was closed.

    `code` is the close code (RFC 6455 section 7.4).
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            reason if code == NO_CODE and reason else f"{reason or 'connection closed'} ({code})"
        )
        self.code = code
        self.reason = reason


class RefusedError(ClientError):
    """The server refused one request; nothing of it was done.

    `code` is one of the protocol's error codes, or `http_` and the status of an answer that has none.
    """

    def __init__(self, code: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class RemovedError(ClientError):
    """The user is no longer in the room: removed by the application, or by a token that does not allow it."""


class ConnectionLostError(ClientError):
    """The connection was lost, and it is not known whether the request was carried out."""


class UnavailableError(ClientError):
    """No answer, or only refusals that ask to come back later; the message may or may not have been said.

    Say it again with the same `idempotency_key` (the `id` of `Room.chat`) soon, and it is said once.
    """

    def __init__(
        self, message: str, *, idempotency_key: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        self.retry_after_seconds = retry_after_seconds
