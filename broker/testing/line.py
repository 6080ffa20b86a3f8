"""A connection in memory whose client may stop to read."""

from typing import TypeAlias

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair, memory_stream_pump

MemoryStream: TypeAlias = "trio.StapledStream[MemorySendStream, MemoryReceiveStream]"


class Line:
    """A connection: the end of the client, and that of the server.

    While the client does not read, a write of the server waits, as on a socket whose buffers are full.
    """

    def __init__(self) -> None:
        self.client_end, self.server_end = memory_stream_pair()
        self._reading = trio.Event()
        self._reading.set()
        self.server_end.send_stream.send_all_hook = self._wait_and_pass_on
        self.server_end.send_stream.close_hook = self._pass_on

    def stop_reading(self) -> None:
        """Let nothing more arrive at the client."""
        self._reading = trio.Event()

    def read_again(self) -> None:
        """Let arrive what has been sent meanwhile, and all that follows."""
        self._reading.set()
        self._pass_on()

    async def _wait_and_pass_on(self) -> None:
        await self._reading.wait()
        self._pass_on()

    def _pass_on(self) -> None:
        if self._reading.is_set():
            # The bytes, and then the end.
            for _ in range(2):
                memory_stream_pump(self.server_end.send_stream, self.client_end.receive_stream)
