"""Replies of a server, from its bytes to our values: the same in whatever pieces, and no error but ours."""

from collections.abc import Callable

import hiredis

from broker.engine.redis.client.connection import Connection
from broker.engine.redis.keyspace import room_of
from broker.engine.redis.replies import (
    parse_announced_version,
    parse_aside,
    parse_close_counts,
    parse_count,
    parse_entries,
    parse_greeting,
    parse_lease,
    parse_left_in_book,
    parse_names,
    parse_position,
    parse_queue_counts,
    parse_receipts,
    parse_remote_presence,
    parse_room_names,
    parse_run,
    parse_scores,
    parse_summary,
    parse_text,
)
from broker.engine.redis.room_replies import parse_answer, parse_claim, parse_stored, parse_timers
from broker.errors import EngineUnavailableError
from broker.model import Draft
from tests.fuzz.pieces import Pieces, in_pieces, run_now

MOST_REPLY_BYTES = 2000

PARSERS: dict[str, Callable[[object], object]] = {
    "greeting": parse_greeting,
    "position": parse_position,
    "receipts": lambda reply: parse_receipts(reply, [Draft(b"{}"), Draft(b"{}")], 0),
    "run": parse_run,
    "presence": lambda reply: parse_remote_presence(reply, "here"),
    "summary": lambda reply: parse_summary("den", reply),
    "lease": parse_lease,
    "entries": parse_entries,
    "aside": parse_aside,
    "queue counts": parse_queue_counts,
    "text": parse_text,
    "names": parse_names,
    "left in book": parse_left_in_book,
    "announced version": parse_announced_version,
    "count": parse_count,
    "scores": parse_scores,
    "close counts": parse_close_counts,
    "room names": lambda reply: parse_room_names(reply, "a"),
    "claim": parse_claim,
    "stored": lambda reply: parse_stored(reply, [Draft(b"{}")], 0),
    "answer": lambda reply: parse_answer(reply, 0),
    "timers": lambda reply: parse_timers(reply, room_of),
}


def written(value: object) -> bytes:
    """Return a reply as a server writes it."""
    match value:
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case int():
            return b":%d\r\n" % value
        case list():
            return b"*%d\r\n%b" % (len(value), b"".join(map(written, value)))
        case _:
            return b"$-1\r\n"


SEEDS = (
    written([b"server", b"redis", b"version", b"7.2.4", b"role", b"master"]),
    written([b"epoch", 3]) + written([b"epoch", 7, -8]),
    written([b"epoch", 2, 1, [[b"1-0", [b"t", b"5", b"c", b'{"type":"x"}']], [b"2-0", [b"t", b"6", b"c", b"{}", b"h", b'["x"]']]]]),
    written([b"store", 4, b"there", 3, [b"c-1", b'["ann",5,null,{"a":1}]'], [b"bob", b"2"]]),
    written([1, b"epoch", 3]) + written([1, 1700000000000, b"gone"]),
    written([b'\x9b\x01\xa1e\xa7message\x05\x06\xa3den\xa0\xa2{}\xa5["x"]\x01\xa1e']),
    written([b"\x93\x05\xa1r\x98\x01\xa1e\xa6joined\x05\x06\xa3den\xa1u\xa2{}"]),
    written([5, [b"\x98\x01\xa1e\xa6joined\x05\x06\xa3den\xa1u\xa2{}"], 0]),
    written([b"a", b"1.5", b"b", b"inf"]),
    written([b"b", b"c"]) + b"+OK\r\n-ERR no\r\n%1\r\n+a\r\n:1\r\n,1.5\r\n#t\r\n_\r\n",
    written([7, b"lost", [b"a", b"-5"], b"Quiz", b"2", b"{}"]) + written(b"5 7 e {}") + written([b"den%7B", b"a", b"5"]),
    b"*1000000\r\n:1\r\n",
    b"*2\r\n$12\r\n*4000000000\r\n\r\n*4000000000\r\n",
    b">2\r\n+message\r\n*-1\r\n",
    b"%1\r\n*1\r\n:1\r\n:1\r\n",
)  # fmt: skip


def check(data: bytes) -> None:
    """Receive replies, and read each of them as every kind of reply."""
    replies, is_lost = _receive([data])
    for pieces in in_pieces(data):
        again, is_lost_again = _receive(pieces)
        # Replies before what is no RESP are lost with the connection, or not, by the pieces they come in.
        shorter, longer = sorted((again, replies), key=len)
        assert list(map(repr, shorter)) == list(map(repr, longer[: len(shorter)]))
        assert len(shorter) == len(longer) or is_lost or is_lost_again
    for reply in replies:
        for parse in PARSERS.values():
            try:
                parse(reply)
            except ValueError:
                continue


def _receive(pieces: list[bytes]) -> tuple[list[object], bool]:
    """Return the replies, and whether the connection was lost over something else than its end."""
    connection = Connection(Pieces(pieces), most_reply_bytes=MOST_REPLY_BYTES)
    replies: list[object] = []
    while True:
        try:
            received = run_now(connection.receive())
        except EngineUnavailableError as error:
            return replies, "closed by the server" not in str(error)
        assert received
        replies += [str(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in received]
