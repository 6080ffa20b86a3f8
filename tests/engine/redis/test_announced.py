"""A server that announces more elements than memory has loses its connection at once, whatever else it sends."""

from itertools import pairwise

import hiredis
import pytest
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.engine.redis.client.announced import (
    MOST_ELEMENTS,
    MOST_KEPT_BYTES,
    MOST_LINE_BYTES,
    AnnouncedElements,
    TooManyElementsError,
)
from broker.engine.redis.client.connection import Connection
from broker.errors import EngineUnavailableError
from tests.fuzz.pieces import Pieces, in_pieces, run_now
from tests.fuzz.targets.redis_replies import written

HUGE = b"%d" % (MOST_ELEMENTS + 1)
"""hiredis itself would take it, so that it is seen what refuses it."""
BEFORE = {
    "nothing": b"",
    "a reply": b"+OK\r\n",
    "an array": b"*2\r\n",
    "arrays": b"*1\r\n*1\r\n*3\r\n:1\r\n$-1\r\n",
    "a map": b"%1\r\n$1\r\nk\r\n",
    "a set": b"~2\r\n+a\r\n",
    "a push": b">2\r\n$7\r\nmessage\r\n",
    "an attribute": b"|1\r\n$1\r\nk\r\n",
    "a string that looks like one": b"*2\r\n$14\r\n*4\r\n\r\n*1234567\r\n",
    "a large string": b"*2\r\n$%d\r\n%b\r\n"
    % (3 * MOST_KEPT_BYTES, b"*1234\r\n$" * (3 * MOST_KEPT_BYTES // 8)),
}


def receive(pieces: list[bytes]) -> list[object]:
    """Return the replies that come before the server closes the connection."""
    connection = Connection(Pieces(pieces))
    replies: list[object] = []
    while True:
        try:
            replies += run_now(connection.receive())
        except EngineUnavailableError as error:
            if "closed by the server" not in str(error):
                raise
            return replies


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("kind", [b"*", b"%", b"~", b">", b"|"])
def test_an_aggregate_that_is_too_large_is_refused_wherever_it_is(kind: bytes, before: bytes) -> None:
    data = before + kind + HUGE + b"\r\n"
    at = len(before)
    for cuts in (
        [],
        [at],
        [at + 1],
        [at + 2],
        [at + 5],
        [at + 9],
        [at + 12],
        [at - 1, at + 3, at + 4, at + 6],
    ):
        edges = [0, *(cut for cut in cuts if 0 < cut < len(data)), len(data)]
        cut_up = [data[begin:end] for begin, end in pairwise(edges)]
        with pytest.raises(EngineUnavailableError, match="not RESP"):
            receive(cut_up)
    if len(data) < 1000:
        with pytest.raises(EngineUnavailableError, match="not RESP"):
            receive([bytes([octet]) for octet in data])


@pytest.mark.parametrize("each", [1000, 9999, 123_456, MOST_ELEMENTS])
@pytest.mark.parametrize("is_at_once", [True, False])
def test_many_that_are_large_in_sum_are_refused(each: int, is_at_once: bool) -> None:
    headers = [b"*%d\r\n" % each] * (MOST_ELEMENTS // each + 1)
    with pytest.raises(EngineUnavailableError, match="not RESP"):
        receive([b"".join(headers)] if is_at_once else headers)


def test_a_reply_may_have_as_many_elements_as_the_one_before() -> None:
    announced = AnnouncedElements()
    header = b"*%d\r\n" % (MOST_ELEMENTS // 2 + 1)
    announced.add(header)
    announced.at_boundary()
    announced.reply_ended()
    announced.add(header)
    announced.at_boundary()
    with pytest.raises(TooManyElementsError):
        announced.add(header)


def test_a_line_without_end_beside_what_looks_large_is_refused() -> None:
    with pytest.raises(EngineUnavailableError, match="not RESP"):
        receive([b"+*1234" + b"x" * 1000, b"x" * MOST_LINE_BYTES])


LOOKALIKES = st.sampled_from(
    [b"*4000000000\r\n", b"%99999999", b"\r\n*12345678\r\n", b"$5\r\n", b"*1000", b"\r", b"\n"]
)
VALUES = st.recursive(
    st.lists(LOOKALIKES | st.binary(max_size=9), max_size=4).map(b"".join) | st.integers(-(2**63), 2**63 - 1),
    lambda values: st.lists(values, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=4))
@example([b"*4000000000\r\n", [b"x", b"*4000000000"]])
def test_content_that_looks_like_a_header_is_content(values: list[object]) -> None:
    data = b"".join(map(written, values))
    plain = hiredis.Reader()
    plain.feed(data)
    expected = [plain.gets() for _ in values]
    for pieces in ([data], *in_pieces(data), [bytes([octet]) for octet in data]):
        assert receive(pieces) == expected


async def test_it_is_seen_on_a_connection_that_is_open() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Connection(ours)
    await theirs.send_all(b"*2\r\n:1\r\n*4000000000\r\n")
    with pytest.raises(EngineUnavailableError, match="not RESP"):
        await connection.receive()
