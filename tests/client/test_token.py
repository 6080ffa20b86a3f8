"""What a client makes of the token it is given."""

import pytest
import trio

from broker.client import ClosedError, connect
from broker.client.token import clean_token


@pytest.mark.parametrize("around", ["{}\n", " {}", "\r\n{}\t"])
async def test_white_space_around_a_token_does_no_harm(open_node, autojump_clock, around):
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return node.dial()

    async with open_node() as node:
        token = around.format(node.token("ann"))
        with trio.fail_after(60):
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

    with trio.fail_after(60):
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
