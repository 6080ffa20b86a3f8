"""A wire protocol: the codec, the decoder and the close codes for clients of one kind."""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from broker.errors import CloseCode
from broker.notices import RequestId
from broker.protocol.commands import AnyCommand
from broker.rooms.member import Codec


class Decoder(Protocol):
    """Decodes text messages into commands; all connections of a protocol share one."""

    def decode(self, text: str) -> AnyCommand:
        """Return the command in `text`.

        :raises BadCommandError: with the request's id, as far as one can be read.
        """
        ...

    def request_id(self, text: str) -> RequestId:
        """Return the id of a message that is refused before it is decoded; None if it has no readable one."""
        ...


@attrs.frozen
class WireProtocol:
    """One protocol; each connection keeps the one that its handshake selected. Rooms see the codec alone."""

    name: str
    """Over WebSocket: the subprotocol that a client offers (RFC 6455 section 1.9)."""
    codec: Codec
    decoder: Decoder | None
    """None where clients only listen."""
    close_code_of: Callable[[CloseCode], int] = int
    """Translates the code with which a connection ends; a WebSocket may send 1000 to 1011 and 3000 to 4999."""


def select_protocol(
    protocols: Sequence[WireProtocol], offers: Sequence[str]
) -> tuple[WireProtocol, str | None]:
    """Return the protocol of a connection, and the subprotocol to answer with, None for none.

    The client's order decides; a client that offers none of `protocols` gets the first. Other offers are never sent
    back: one may be a secret.
    """
    for offer in offers:
        for protocol in protocols:
            if protocol.name == offer:
                return protocol, offer
    return protocols[0], None
