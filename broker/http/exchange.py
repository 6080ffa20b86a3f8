"""Quart-trio's handling of one HTTP exchange, with a body that is received no faster than it is read.

Quart collects a body as fast as it comes, up to a limit at which the request fails. A request of any length that
is answered while it comes in needs the opposite: what is not read stays in the client's hands.
"""

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import request
from quart.wrappers import Request
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest

from broker.auth.api_keys import Caller
from broker.errors import ErrorCode, RefusalReason

CALLER = "greenroom.caller"
"""The entry of an ASGI scope with the `Caller` whom the gate has found; None if there is no API key."""

CLIENT_CERTIFICATE = "greenroom.client_certificate"
"""The entry of an ASGI scope of a client that has shown a certificate which the server trusts; absent otherwise."""


class PacedBody(TrioBody):
    """An iterator over the chunks of a body; sending it a chunk waits until the chunk is taken."""

    def __init__(self, expected_bytes: int | None, max_bytes: int | None) -> None:  # noqa: ARG002  # as Quart calls it
        self._sender, self._receiver = trio.open_memory_channel[bytes](0)

    async def feed(self, chunk: bytes) -> None:
        """Pass a chunk on, after waiting until it is taken."""
        await self._sender.send(chunk)

    def finish(self) -> None:
        """Close the body after its last chunk."""
        self._sender.close()

    def __aiter__(self) -> "PacedBody":
        """Iterate over the chunks, once."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for the next chunk."""
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __await__(self) -> Generator[Any, None, bytes]:
        """Refuse: a whole body is read by broker.http.bodies, within limits."""
        raise NotImplementedError("iterate over the body; broker.http.bodies reads all of it, within limits")


class PacedRequest(TrioRequest):
    """One request, with the tasks and clean-up that end with it, however it ends."""

    body_class = PacedBody  # type: ignore[assignment]
    body: PacedBody
    nursery: trio.Nursery
    """Open until the request is answered; an exception in it fails the request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exits = ExitStack()
        """Clean-up, called at the end also if the request is cancelled; nothing there may block."""
        self.began_at = trio.current_time()
        self.why: RefusalReason | ErrorCode | None = None
        """The reason of its refusal, where an error handler knows more than the status."""
        self._is_read = False
        self._is_client_gone = False
        self._needs_client = False

    @property
    def is_called_with_key(self) -> bool:
        """Whether the gate has found an API key."""
        return self.scope.get(CALLER) is not None

    @property
    def caller(self) -> Caller:
        """The bearer of the API key, on a route that nobody reaches without one."""
        caller: Caller = self.scope[CALLER]  # type: ignore[literal-required]
        return caller

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields that name the API key in a log line."""
        return self.caller.log_fields if self.is_called_with_key else {}

    def end_with_client(self) -> None:
        """End the request when the client ends its side of the connection; for endless answers.

        A client may also end its side because it has no more to ask (RFC 9112 section 9.6), and then waits for the
        answer. The two look the same until something is written. So any other request that was read to its end is
        answered, unless the connection breaks.
        """
        self._needs_client = True
        if self._is_client_gone:
            self.nursery.cancel_scope.cancel()

    def read_out(self) -> None:
        """Note that the whole body has come."""
        self._is_read = True
        self.body.finish()

    def client_gone(self) -> None:
        """Note that nothing more comes from the client."""
        self._is_client_gone = True
        if self._needs_client or not self._is_read:
            self.nursery.cancel_scope.cancel()


def this_request() -> PacedRequest:
    """Return the request being handled, which Quart keeps in a context variable."""
    return cast("PacedRequest", request._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001


class Exchange(TrioASGIHTTPConnection):
    """Handles one request; made by the application for each."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Receive the body and answer at the same time, until the answer is sent or the client is gone."""
        paced = cast("PacedRequest", self._create_request_from_scope(send))
        with paced.exits:
            async with trio.open_nursery() as nursery:
                paced.nursery = nursery
                nursery.start_soon(self.handle_messages, nursery, paced, receive)
                nursery.start_soon(self.handle_request, nursery, paced, send)

    async def handle_messages(  # type: ignore[override]  # as Quart-trio has it
        self,
        nursery: trio.Nursery,  # noqa: ARG002  # the request has it too
        request: Request,
        receive: ASGIReceiveCallable,
    ) -> None:
        """Pass the body on as it is read, and note when the client is gone."""
        paced = cast("PacedRequest", request)
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                paced.client_gone()
                return
            assert event["type"] == "http.request", "there is no other in HTTP"
            if chunk := event.get("body", b""):
                await paced.body.feed(bytes(chunk))
            if not event.get("more_body", False):
                paced.read_out()
