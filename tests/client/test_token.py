"""A client's checks of its token."""

import math
from base64 import urlsafe_b64encode
from random import Random

import pytest
import trio

from broker.client import ClosedError, RemovedError, connect
from broker.client.token import clean_token, expiry_of
from tests.support.patience import PATIENCE_SECONDS


@pytest.mark.parametrize("around", ["{}\n", " {}", "\r\n{}\t"])
async def test_white_space_around_a_token_does_no_harm(open_node, autojump_clock, around):
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return node.dial()

    async with open_node() as node:
        token = around.format(node.token("ann"))
        with trio.fail_after(PATIENCE_SECONDS):
            async with (
                connect("ws://example.org", token=token, dial=dial) as client,
                client.join("lobby") as room,
            ):
                assert room.joined["room_size"] == 1


@pytest.mark.parametrize("is_asked_for", [False, True])
async def test_what_is_no_token_is_not_sent(autojump_clock, is_asked_for):
    text = "<html>s3cret\n</html>"

    async def get_token() -> str:
        await trio.lowlevel.checkpoint()
        return text

    async def dial() -> trio.abc.Stream:
        raise AssertionError

    with trio.fail_after(PATIENCE_SECONDS):
        async with connect(
            "ws://example.org", token=get_token if is_asked_for else text, dial=dial
        ) as client:
            with pytest.raises(ClosedError, match="the token is malformed") as closed:
                async with client.join("lobby"):
                    pass
    assert closed.value.code == 4001
    assert "s3cret" not in str(closed.value)


def test_characters_of_tokens():
    assert clean_token("eyJ_-0.A.z\n") == "eyJ_-0.A.z"
    for text in ("", " ", "a b", "a,b", "a\nb", "é", "٣", "a=="):
        assert clean_token(text) is None, text


def test_the_expiry_of_tokens():
    def jwt(payload: bytes) -> str:
        return f"h.{urlsafe_b64encode(payload).rstrip(b'=').decode()}.s"

    assert expiry_of(jwt(b'{"exp":17,"sub":"\xc3\xa9"}')) == 17
    assert expiry_of(jwt(b'{"exp":17.5}')) == 17.5
    assert expiry_of(jwt(b'{"sub":"ann"}')) == math.inf
    for bad in ("", "t", "a.b.c", jwt(b"[]"), jwt(b'{"exp":"x"}'), jwt(b"{")):
        with pytest.raises(ValueError, match=r".+"):
            expiry_of(bad)


class Issuer:
    """Gives the tokens of one user, each good for as long as it is told."""

    def __init__(self, node, ttls):
        self.node = node
        self.ttls = ttls
        self.given = []

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        ttl = self.ttls[min(len(self.given), len(self.ttls) - 1)]
        if isinstance(ttl, Exception):
            self.given.append("")
            raise ttl
        token = ttl if isinstance(ttl, str) else self.node.token("ann", ttl_seconds=ttl)
        self.given.append(token)
        return token


async def test_a_token_is_replaced_before_it_expires_and_nobody_is_told(open_node, autojump_clock):
    states = []
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        issuer = Issuer(node, [60, 60, OSError("away"), "t", 5, 600])
        async with (
            connect("ws://x", token=issuer, dial=node.dialled, on_state=states.append) as client,
            client.join("lobby") as room,
        ):
            await observer.settle()
            await trio.sleep(500)
            assert await observer.settle() == []
            await room.chat("still here")
        assert [state.kind for state in states] == ["connecting", "connected"]
        # The first, one that replaced it, three attempts at another, and one for the rest.
        assert len(issuer.given) == 6


async def test_a_token_out_of_its_time_is_asked_for_again(open_node, autojump_clock):
    states = []
    async with open_node() as node:
        expired = node.token("ann", ttl_seconds=1)
        await trio.sleep(5)
        issuer = Issuer(node, [expired, expired, 600])
        async with (
            connect("ws://x", token=issuer, dial=node.dialled, on_state=states.append) as client,
            client.join("lobby"),
        ):
            pass
        causes = {(state.cause.code, state.cause.reason) for state in states if state.kind == "waiting"}
        assert causes == {(4001, "token has expired (exp)")}
        async with connect("ws://x", token=expired, dial=node.dialled) as client:
            with pytest.raises(ClosedError, match="expired"):
                async with client.join("lobby"):
                    pass


async def test_a_mistake_of_the_application_at_a_refresh_ends_the_client(open_node, autojump_clock):
    async with open_node() as node:
        issuer = Issuer(node, [60, KeyError("mistake")])
        async with connect("ws://x", token=issuer, dial=node.dialled) as client, client.join("lobby") as room:
            with pytest.raises(ClosedError, match="mistake") as closed:
                async for _ in room:
                    pass
            assert isinstance(closed.value.__cause__, KeyError)


async def test_a_room_that_the_new_token_does_not_allow_is_left(open_node, autojump_clock):
    async with open_node() as node:
        issuer = Issuer(node, [60, node.token("ann", ttl_seconds=6000, rooms=["kept"])])
        async with (
            connect("ws://x", token=issuer, dial=node.dialled) as client,
            client.join("kept") as kept,
            client.join("dropped") as dropped,
        ):
            with pytest.raises(RemovedError):
                async for _ in dropped:
                    pass
            await kept.chat("here")


async def test_whoever_cannot_wait_connects_now(open_node, autojump_clock):
    is_reachable = False

    async with open_node() as node:

        async def dial() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            if not is_reachable:
                raise OSError("away")
            return node.dial()

        async with connect("ws://x", token=node.token("ann"), dial=dial, random=Longest()) as client:
            await trio.sleep(200)
            assert client.state.retry_seconds == 30
            is_reachable = True
            client.reconnect_now()
            with trio.fail_after(0.5):
                async with client.join("lobby") as room:
                    client.reconnect_now()
                    await room.chat("here")


class Longest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b
