"""Each connection speaks the protocol that its handshake selected; rooms notice nothing of it."""

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from broker.errors import CloseCode, ErrorCode, Refused
from broker.notices import Failed, Notice
from broker.protocol.commands import AnyCommand, BadCommandError, Chat, Join
from broker.sessions.wire_protocol import WireProtocol, select_protocol
from broker.transport.frames import text_frame
from broker.transport.native_protocol import native_protocol
from tests.support.node import OpenNode


@attrs.frozen
class LineCodec:
    """Writes the name of each notice, of a refusal its code."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        return b"".join(
            text_frame((n.refused.code if isinstance(n, Failed) else type(n).__name__).encode())
            for n in notices
        )


class LineDecoder:
    """Reads `join ROOM` and `say ROOM TEXT`."""

    def decode(self, text: str) -> AnyCommand:
        match text.split(" ", 2):
            case ["join", room]:
                return Join(room=room)
            case ["say", room, said]:
                return Chat(room=room, text=said)
        raise BadCommandError(Refused(ErrorCode.INVALID_MESSAGE, "a line"))

    def request_id(self, _text: str) -> None:
        return None


LINES = WireProtocol("lines", LineCodec(), LineDecoder(), lambda code: int(code) - 1000)
OTHER = attrs.evolve(LINES, name="other")
PROTOCOLS = [native_protocol(), LINES, OTHER]


@given(st.lists(st.sampled_from(["greenroom.v1", "lines", "other", "LINES", "chat", "bearer.a.b.c", ""])))
def test_the_first_offer_that_there_is_is_selected_and_no_other_is_sent_back(offers: list[str]) -> None:
    protocol, answer = select_protocol(PROTOCOLS, offers)
    fitting = [offer for offer in offers if offer in {"greenroom.v1", "lines", "other"}]
    assert answer == (fitting[0] if fitting else None)
    assert protocol.name == (answer or "greenroom.v1")


@pytest.mark.parametrize("offers", [[], ["chat"], ["greenroom.v1", "lines"]])
async def test_a_client_that_asks_for_nothing_else_speaks_the_native_protocol(
    open_node: OpenNode, autojump_clock: MockClock, offers: list[str]
) -> None:
    async with open_node(protocols=PROTOCOLS) as node:
        client = await node.client("ann", subprotocols=offers)
        assert client.connection.subprotocol == ("greenroom.v1" if "greenroom.v1" in offers else None)
        assert await client.ask(type="ping") == {"type": "pong", "id": "asked"}


async def test_two_protocols_meet_in_one_room(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(protocols=PROTOCOLS) as node:
        ann = await node.member("ann", "lobby")
        bob = (await node.client("bob", subprotocols=["chat", "lines"])).connection
        assert bob.subprotocol == "lines"
        for line, answers in {
            "join lobby": ["Joined", "UserJoined"],
            "say lobby hello": ["RoomEvent"],
            '{"type":"ping"}': ["invalid_message"],
        }.items():
            await bob.send_message(line)
            assert [await bob.get_message() for _ in answers] == answers
        assert (await ann.receive_type("chat"))["text"] == "hello"
        await ann.send(type="chat", text="hello back")
        assert await bob.get_message() == "RoomEvent"
        node.connections.disconnect_user("bob", CloseCode.REMOVED, "removed")
        with pytest.raises(ConnectionClosed) as closed:
            await bob.get_message()
        assert closed.value.reason.code == CloseCode.REMOVED - 1000
        assert (await ann.receive_type("user_left"))["user_id"] == "bob"
