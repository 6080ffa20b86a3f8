"""The broker's own port and transport, with an echo behind it instead of rooms, as the suite expects.

Only what a message means is exchanged: its decoder takes every text for a bad command whose explanation is the
text, and its codec writes an explanation as it is. All of the broker's transport stays what it is.
"""

import os
from collections.abc import Sequence

import trio

from bench.instructions.node import open_node
from broker.config.settings import WebSocketSettings
from broker.errors import ErrorCode, Refused
from broker.notices import Failed, Notice
from broker.protocol.commands import AnyCommand, BadCommandError, CommandDecoder
from broker.sessions.wire_protocol import WireProtocol
from broker.transport.frames import WebSocketCodec, text_frame


class EchoDecoder(CommandDecoder):
    """Answers every text with itself."""

    def decode(self, text: str | bytes) -> AnyCommand:
        """Refuse it."""
        whole = text if isinstance(text, str) else text.decode()
        raise BadCommandError(Refused(ErrorCode.INVALID_MESSAGE, whole))


class EchoCodec(WebSocketCodec):
    """Writes what was refused."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return a text frame for each."""
        return b"".join(
            text_frame(notice.refused.message.encode()) for notice in notices if isinstance(notice, Failed)
        )


ECHO = WireProtocol("echo", EchoCodec(), EchoDecoder())
WEBSOCKET = WebSocketSettings(message_bytes=1 << 20, compression=True, compression_min_bytes=1)


async def main() -> None:
    """Serve the port that the environment names."""
    async with open_node(ECHO, WEBSOCKET) as node:
        await trio.serve_tcp(node.port.serve, int(os.environ["PORT"]), host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main)
