"""Errors of the clients, with the root `ClientError`."""

from broker.errors import GreenroomError

NO_CODE = 1006
"""The close code of a connection that ended without a close frame (RFC 6455 section 7.1.5)."""


class ClientError(GreenroomError):
    """The root of the errors of clients and publishers."""


class NotSentError(ClientError, ValueError):
    """An argument or the environment is invalid; nothing was sent."""


class AddressError(NotSentError):
    """The server's address is invalid."""


class ClosedError(ClientError):
    """The client has ended: the server refuses it for good, or it was closed.

    `code` is the close code (RFC 6455 section 7.4).
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            reason if code == NO_CODE and reason else f"{reason or 'connection closed'} ({code})"
        )
        self.code = code
        self.reason = reason


class RefusedError(ClientError):
    """The server refused one request; no part of it was applied.

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
    """The connection was lost, and the request may or may not have been applied."""


class UnavailableError(ClientError):
    """No answer, or only temporary refusals; the message may or may not have been published.

    Publish it again with the same `idempotency_key` (the `id` of `Room.chat`) soon, and it is stored once. Calls that
    publish nothing have no key, and may be made again.
    """

    def __init__(
        self, message: str, *, idempotency_key: str | None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        self.retry_after_seconds = retry_after_seconds
