"""Rooms on picows, a WebSocket server in Cython, on uvloop: the article's protocol."""

import asyncio
import json
import os
from collections import defaultdict

import picows
import uvloop

from bench.baselines import rooms

_BACKLOG = 4096


def tell(members: set[picows.WSTransport], text: str) -> None:
    """Send a text to each."""
    payload = text.encode()
    for member in members:
        member.send(picows.WSMsgType.TEXT, payload)


class Member(picows.WSListener):
    """One connection, if its token is good."""

    def __init__(self, members: defaultdict[str, set[picows.WSTransport]], guest: rooms.Guest | None) -> None:
        super().__init__()
        self._guest = guest
        self._room = members[guest.room] if guest else set()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Join, or close."""
        if self._guest is None:
            transport.send_close(picows.WSCloseCode.POLICY_VIOLATION)
            transport.disconnect()
            return
        self._room.add(transport)
        told = self._room if len(self._room) <= rooms.TELL_ALL else {transport}
        tell(told, rooms.joined(self._guest.user, len(self._room)))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Leave."""
        if self._guest is not None:
            self._room.discard(transport)
            tell(self._room, rooms.left(self._guest.user))

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take a chat or a ping."""
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.TEXT and self._guest is not None:
            message = json.loads(frame.get_payload_as_utf8_text())
            if message.get("type") == "chat":
                tell(self._room, rooms.chat(self._guest.user, message["text"]))
            elif message.get("type") == "ping":
                transport.send(picows.WSMsgType.TEXT, rooms.PONG.encode())


async def _main() -> None:
    members: defaultdict[str, set[picows.WSTransport]] = defaultdict(set)

    def make(request: picows.WSUpgradeRequest) -> Member:
        return Member(members, rooms.guest_of(request.path.decode()))

    server = await picows.ws_create_server(
        make, "127.0.0.1", int(os.environ["PORT"]), max_frame_size=1 << 20, backlog=_BACKLOG
    )
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
