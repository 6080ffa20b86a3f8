"""Feeds what is read before any token was checked with its worst. Usage: parser_costs.py LIBRARY, under callgrind.

Each stage is one place of a request and one size, with every unit that may repeat there. A place that costs more than
in proportion to its size with any of them does so in the sum.
"""

import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import h11
from jwt import PyJWS

from bench.instructions.stages import Stages
from broker.auth.bearer import ApiKey, find_token
from broker.auth.tokens import TokenVerifier, open_verifier
from broker.config.settings import AuthSettings, HttpSettings
from broker.errors import Disconnect
from broker.http.hosting.http1 import Worker, _Http1, make_config
from broker.http.target import routed_path
from broker.log import stdlib_log
from broker.log.fields import redact
from broker.transport.connection import parse_destination
from broker.transport.handshake import HandshakeError, answer_handshake, offered_subprotocols
from broker.transport.head import HeadError, check_request, parse_head
from tests.support.secrets import SECRET

SIZES = (4096, 8192)
TOKEN_SIZES = (1024, 2048)
"""Of a token's header or claims: a token may have 8192 characters, of which base64 takes a third."""
BYTES_SIZES = (512, 1024)
"""Of what comes byte by byte."""
WARM_UP = 64

NOW = 1_700_000_000.0

UNITS = [b" ", b",", b"a,", b"a.", b"%", b"a=&", b"eyJ", b'"', b"1", b"\xff"]
ENDS = [b"", b"\0"]

HEADERS = [b"Host", b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Authorization", b"Origin", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Other"]  # fmt: skip
WEBSOCKET = {
    b"Host": b"a",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Version": b"13",
}
CONFIG = make_config(HttpSettings(head_bytes=1 << 20), stdlib_log())
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def head_of(target: bytes, headers: Mapping[bytes, bytes], *lines: bytes) -> bytes:
    fields = [b"%b: %b" % header for header in headers.items()]
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, *fields, *lines, b"", b""])


HEADS: dict[str, Callable[[bytes], bytes]] = {
    **{
        name.decode().lower(): lambda worst, name=name: head_of(b"/ws/a", {**WEBSOCKET, name: worst})
        for name in HEADERS
    },
    "target": lambda worst: head_of(worst, WEBSOCKET),
    "room": lambda worst: head_of(b"/ws/" + worst, WEBSOCKET),
    "query": lambda worst: head_of(b"/ws/a?" + worst, WEBSOCKET),
    "offset": lambda worst: head_of(b"/ws/a?offset=" + worst, WEBSOCKET),
    "name": lambda worst: head_of(b"/ws/a", WEBSOCKET, worst + b": a"),
    "method": lambda worst: worst + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    "before": lambda worst: worst + head_of(b"/ws/a", WEBSOCKET),
}
H11_HEADS = ("host", "connection", "content-length", "transfer-encoding", "other", "target")
"""Of the other headers h11 makes no difference."""
BODIES: dict[str, Callable[[bytes], bytes]] = {
    "chunk-size": lambda worst: POST + worst + b"\r\n",
    "chunk-extension": lambda worst: POST + b"1;" + worst + b"\r\na\r\n0\r\n\r\n",
    "chunk-extension-in-lines": lambda worst: POST + b"1;" + worst + b"\n\r\na\r\n0\r\n\r\n",
    "trailer": lambda worst: POST + b"0\r\na:" + worst + b"\r\n\r\n",
}
MANY: dict[str, Callable[[int], bytes]] = {
    "lines": lambda size: head_of(b"/ws/a", WEBSOCKET, *[b"a:"] * (size // 4)),
    "bare-line-feeds": lambda size: head_of(b"/ws/a", WEBSOCKET, b"a:\n" * (size // 3) + b"a:"),
    "subprotocol-lines": lambda size: head_of(
        b"/ws/a", WEBSOCKET, *[b"Sec-WebSocket-Protocol: a"] * (size // 27)
    ),
    "empty-lines": lambda size: b"\r\n" * (size // 2),
    "trailers": lambda size: POST + b"0\r\n" + b"a:\r\n" * (size // 4) + b"\r\n",
    "chunks": lambda size: POST + b"1\r\na\r\n" * (size // 6) + b"0\r\n\r\n",
}
CLAIMS: dict[str, Callable[[int], str]] = {
    "lists": lambda size: '{"a":' + "[" * (size // 2) + "]" * (size // 2) + "}",
    "objects": lambda size: '{"a":' * (size // 6) + "1" + "}" * (size // 6),
    "open": lambda size: "[" * size,
    "digits": lambda size: '{"exp":' + "1" * size + "}",
    "exponent": lambda size: '{"exp":1e' + "1" * size + "}",
    "escapes": lambda size: '{"sub":"' + "\\u0041" * (size // 6) + '"}',
    "keys": lambda size: "{" + ",".join(f'"{n}":1' for n in range(size // 8)) + "}",
    "same-key": lambda size: "{" + ",".join(['"a":1'] * (size // 6)) + "}",
    "rooms": lambda size: '{"sub":"a","rooms":["' + '","'.join("*" * (size // 4)) + '"]}',
    "blanks": lambda size: '{"sub":' + " " * size,
}


def worsts(size: int) -> Iterator[bytes]:
    for unit in UNITS:
        for end in ENDS:
            yield unit * (size // len(unit)) + end


class PassingStream:
    """The stream from which hypercorn's protocol gets its bytes."""

    def check_head(self, head: bytes) -> int | None:
        """Do what the port does with a later head."""
        with suppress(HeadError):
            check_request(parse_head(head))
        return None

    @property
    def find_client(self) -> None:
        return

    def find_handler(self, request: bytes) -> None:
        """Serve everything as HTTP."""


def look_at_head(raw: bytes) -> None:
    """Do what the port does."""
    with suppress(HeadError, HandshakeError, Disconnect):
        head = parse_head(raw)
        check_request(head)
        parse_destination(head.path, head.query)
        if head.is_websocket:
            answer_handshake(head, None)
        find_token(query=head.query, headers=head.headers, subprotocols=offered_subprotocols(head))


def read_with_h11(raw: bytes, *, piece_bytes: int | None = None) -> None:
    """Do what hypercorn does, with the connection that it is given here."""
    app: Any = None
    protocol = _Http1(
        app, CONFIG, Worker(lambda _path: False), app, app, False, app, app, app, stream=PassingStream()
    )  # fmt: skip
    connection = protocol.connection
    with suppress(h11.RemoteProtocolError):
        for start in range(0, len(raw), piece_bytes or len(raw)):
            connection.receive_data(raw[start : start + (piece_bytes or len(raw))])
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    routed_path(event.target.decode("latin-1"))


def token_of(header: bytes, claims: bytes) -> str:
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (header, claims, b"x" * 32))


def verify(verifier: TokenVerifier, token: str) -> None:
    with suppress(Disconnect):
        verifier.verify(token)


def look_at_tokens(verifier: TokenVerifier, make: Callable[[int], str], size: int) -> None:
    verify(verifier, token_of(make(size).encode(), b"{}"))
    verify(verifier, token_of(b'{"alg":"HS256","kid":' + make(size).encode() + b"}", b"{}"))
    verify(verifier, PyJWS().encode(make(size).encode(), SECRET, algorithm="HS256"))


def count_all(stages: Stages) -> None:
    verifier = open_verifier(AuthSettings(secret=SECRET), wall_clock=lambda: NOW)
    key = ApiKey("a-key-of-this-script")

    def run(name: str, feed: Callable[[int], None], sizes: tuple[int, int] = SIZES) -> None:
        feed(WARM_UP)
        for place, size in zip(("half", "whole"), sizes, strict=True):
            with stages.stage(f"{name}:{place}"):
                feed(size)

    def feed_all(read: Callable[[bytes], None], make: Callable[[bytes], bytes], size: int) -> None:
        for worst in worsts(size):
            read(make(worst))

    for name, make in HEADS.items():
        run(f"port/{name}", partial(feed_all, look_at_head, make))
    for name, make in {**{name: HEADS[name] for name in H11_HEADS}, **BODIES}.items():
        run(f"h11/{name}", partial(feed_all, read_with_h11, make))
    for name, make_many in MANY.items():
        run(f"port/{name}", lambda size, make=make_many: look_at_head(make(size)))
        run(f"h11/{name}", lambda size, make=make_many: read_with_h11(make(size)))
    for name, make in {"head": HEADS["other"], **BODIES}.items():
        run(
            f"bytes/{name}",
            lambda size, make=make: read_with_h11(make(b"a" * size), piece_bytes=1),
            BYTES_SIZES,
        )
    run("key", lambda size: [key.matches("Bearer " + w.decode("latin-1")) for w in worsts(size)] and None)
    run("log", lambda size: [redact({"reason": worst.decode("latin-1")}) for worst in worsts(size)] and None)
    for name, make_claims in CLAIMS.items():
        run(f"token/{name}", partial(look_at_tokens, verifier, make_claims), TOKEN_SIZES)
    run("token/dots", lambda size: verify(verifier, "." * size), TOKEN_SIZES)
    run("token/long", lambda size: verify(verifier, "a" * size))


if __name__ == "__main__":
    count_all(Stages(sys.argv[1] if len(sys.argv) > 1 else None, are_short=True))
