"""The native protocol over WebSocket."""

from broker.protocol.commands import CommandDecoder
from broker.protocol.messages import PROTOCOL_NAME
from broker.sessions.wire_protocol import WireProtocol
from broker.transport.frames import WebSocketCodec


def native_protocol() -> WireProtocol:
    """Return the native protocol, for all connections that share its frames."""
    return WireProtocol(PROTOCOL_NAME, WebSocketCodec(), CommandDecoder())
