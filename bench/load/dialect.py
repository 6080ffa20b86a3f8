"""How a server is spoken to, where not all speak alike."""

import attrs

from bench.load.plan import TARGET


@attrs.frozen
class Dialect:
    """The chat protocol, as far as the loads need it; what is not said otherwise is Greenroom's.

    In `hello` and `chat_before`, `{room}` stands for the number of the room, as six digits, and in `hello` `{token}` for
    the user's token. A chat is `chat_before`, the text and `chat_after`. `welcome` and `pong` stand somewhere in the messages
    that tell a member that it is in its room, and that answer a `ping`. `hello` is said first, if anything.
    """

    target: str = TARGET
    hello: str = ""
    welcome: str = 'joined"'
    chat_before: str = '{"type":"chat","text":"'
    chat_after: str = '"}'
    ping: str = '{"type":"ping"}'
    pong: str = '"pong"'


NATIVE = Dialect()
"""Greenroom's own."""
