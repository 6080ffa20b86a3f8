"""A part of one connection that raises what nobody expects ends that connection and no other."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from broker.auth.permissions import RoomPolicy
from broker.errors import CloseCode
from broker.model import Capability, Claims
from broker.notices import Joined, Notice, Pong, PresenceList
from broker.protocol.commands import AnyCommand, CommandDecoder
from broker.transport.connection import ConnectionServices
from broker.transport.frames import WebSocketCodec
from tests.support.node import Node, OpenNode
from tests.support.peers import Client, RawPeer


class PoisonError(Exception):
    """An unexpected error."""


class PoisonedDecoder(CommandDecoder):
    def decode(self, text: str | bytes) -> AnyCommand:
        if "poison" in str(text):
            raise PoisonError
        return super().decode(text)


@attrs.frozen
class PoisonedPolicy(RoomPolicy):
    def check(self, claims: Claims, room: str, capability: Capability) -> None:
        if room == "poison":
            raise PoisonError
        super().check(claims, room, capability)


@attrs.frozen
class PoisonedVerifier:
    inner: Any

    def verify(self, token: str | None) -> Claims:
        if token == "poison":
            raise PoisonError
        claims: Claims = self.inner.verify(token)
        return claims


def poisoned_codec(kind: type[Notice]) -> WebSocketCodec:
    class PoisonedCodec(WebSocketCodec):
        def encode(self, notices: Sequence[Notice]) -> bytes:
            if any(isinstance(notice, kind) for notice in notices):
                raise PoisonError
            return super().encode(notices)

    return PoisonedCodec()


def with_sessions(**changes: Callable[[Any], Any]) -> Callable[[ConnectionServices], ConnectionServices]:
    def change(services: ConnectionServices) -> ConnectionServices:
        new = {name: make(getattr(services.sessions, name)) for name, make in changes.items()}
        return attrs.evolve(services, sessions=attrs.evolve(services.sessions, **new))

    return change


def with_protocol(**changes: Any) -> Callable[[ConnectionServices], ConnectionServices]:
    return lambda services: attrs.evolve(services, protocols=[attrs.evolve(services.protocols[0], **changes)])


def with_codec(kind: type[Notice]) -> Callable[[ConnectionServices], ConnectionServices]:
    return with_protocol(codec=poisoned_codec(kind))


POISONS: dict[str, tuple[Callable[[ConnectionServices], ConnectionServices], dict[str, Any]]] = {
    "decoder": (with_protocol(decoder=PoisonedDecoder()), {"type": "chat", "text": "poison"}),
    "policy": (
        with_sessions(policy=lambda old: PoisonedPolicy(old.rules, old.private_user_rooms)),
        {"type": "join", "room": "poison"},
    ),
    "verifier": (with_sessions(verifier=PoisonedVerifier), {"type": "refresh", "token": "poison"}),
    "codec of a reply of the session": (with_codec(Pong), {"type": "ping"}),
    "codec of a reply of the room": (with_codec(PresenceList), {"type": "presence"}),
}


@pytest.mark.parametrize("name", POISONS)
async def test_it_ends_its_own_connection(open_node: OpenNode, autojump_clock: MockClock, name: str) -> None:
    change, request = POISONS[name]
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        victim = await node.member("ann", "lobby", services=change(node.services))
        # Sent again and again: the room is not to be worn down by it.
        with suppress(ConnectionClosed):
            for _ in range(20):
                await victim.send(**request)
        assert (await victim.read_to_end())[1] == CloseCode.INTERNAL_ERROR
        await check_others_are_well(node, observer)


async def test_a_codec_that_cannot_say_joined(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        for _ in range(3):
            victim = await node.client("ann", "lobby", services=with_codec(Joined)(node.services))
            assert (await victim.read_to_end())[1] in {CloseCode.INTERNAL_ERROR, CloseCode.TRY_AGAIN_LATER}
            await trio.sleep(10)
        await check_others_are_well(node, observer)


async def check_others_are_well(node: Node, observer: Client) -> None:
    await trio.sleep(2)
    assert len(node.connections) == len(node.admission) == node.rooms.statistics().members == 1
    await observer.settle()
    assert (await observer.ask(type="chat", text="well"))["type"] == "ack"
    newcomer = await node.member("bob", "lobby")
    assert (await newcomer.ask(type="presence"))["room_size"] == 2
    lines = node.log_lines()
    assert all("PoisonError" in str(line) for line in lines)
    assert 1 <= len(lines) <= 3 * 2


async def test_an_outbox_that_cannot_be_written_to_is_no_one_elses(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    """The stream of one member raises while the room fans out to all."""
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        line = node.connect()
        victim = RawPeer(line.client_end)
        await victim.shake_hands(node.target("lobby", token=node.token("ann")))
        await victim.read_message()

        async def fail() -> None:
            raise PoisonError

        line.server_end.send_stream.send_all_hook = fail
        await observer.settle()
        for i in range(10):
            await observer.send(type="chat", text=str(i))
        told = await observer.settle()
        assert [message["offset"] for message in told if message["type"] == "chat"] == list(range(1, 11))
        assert [message["user_id"] for message in told if message["type"] == "user_left"] == ["ann"]
        await check_others_are_well(node, observer)
