"""RFC 9112, RFC 9110 section 7.8 and RFC 6455 section 4.2.1, requirement by requirement, on every way into the server.

The first request of a connection is read by the port, which serves a WebSocket itself; HTTP goes to hypercorn, which
reads all later requests too. A row must have the same answer on all ways.
"""

import pytest
import trio

from tests.server.test_kept_connections import BEFORE, KeptPeer, dial
from tests.support.peers import KEY
from tests.support.secrets import API_KEY
from tests.support.served import Served

GET = "GET /health HTTP/1.1"
POST = "POST /api/rooms/lobby/messages HTTP/1.1"
HOST = "Host: a"
AUTH = f"Authorization: Bearer {API_KEY}"
JSON = "Content-Type: application/json"
BODY = '{"type":"news"}'
UPGRADE = "Upgrade: websocket"
CONNECTION = "Connection: Upgrade"
KEY_LINE = f"Sec-WebSocket-Key: {KEY}"
VERSION = "Sec-WebSocket-Version: 13"
WS = "GET /ws/lobby HTTP/1.1"

CLOSES = "closes"
KEEPS = "keeps"


def lines(*text: str, body: str = "") -> bytes:
    return "\r\n".join([*text, "", body]).encode("latin-1")


def websocket(
    *more: str,
    start: str = WS,
    host: str = HOST,
    upgrade: str = UPGRADE,
    connection: str = CONNECTION,
    key: str = KEY_LINE,
    version: str = VERSION,
    body: str = "",
) -> bytes:
    given = [line for line in (start, host, upgrade, connection, key, version, *more) if line]
    return lines(*given, body=body)


# Section and requirement: the request, its status, and whether the connection is kept.
ROWS: dict[str, tuple[bytes, int, str]] = {
    "9112 2.2 a request": (lines(GET, HOST), 200, KEEPS),
    "9112 2.2 octets beyond ASCII in a value": (lines(GET, HOST, "X: \xff"), 200, KEEPS),
    "9112 2.2 a bare LF may end a line": (lines(GET, HOST, "X: a\nY: b"), 200, KEEPS),
    "9112 2.2 a bare LF may end every line": (b"GET /health HTTP/1.1\nHost: a\n\n", 200, KEEPS),
    "9112 2.2 a bare LF may end the line before the empty one": (b"GET /health HTTP/1.1\r\nHost: a\n\r\n", 200, KEEPS),
    "9112 2.2 a bare LF may end the empty line": (b"GET /health HTTP/1.1\r\nHost: a\r\n\n", 200, KEEPS),
    "9112 2.2 bare LFs in a handshake": (websocket().replace(b"\r\n", b"\n"), 101, KEEPS),
    "9112 2.2 a bare CR is invalid": (lines(GET, HOST, "X: a\rb"), 400, CLOSES),
    "9112 2.2 a bare CR in the request line": (lines("GET /health\r HTTP/1.1", HOST), 400, CLOSES),
    "9112 2.2 an empty line before is ignored": (b"\r\n" + lines(GET, HOST), 200, KEEPS),
    "9112 2.2 white space before the first header": (lines(GET, " X: a", HOST), 400, CLOSES),
    "9112 2.2 no HTTP at all": (b"hello\r\n\r\n", 400, CLOSES),
    "9112 2.3 the name of the version is case-sensitive": (lines("GET /health http/1.1", HOST), 400, CLOSES),
    "9112 2.3 a version without a minor": (lines("GET /health HTTP/1", HOST), 400, CLOSES),
    "9112 2.3 a minor version that is not known": (lines("GET /health HTTP/1.9", HOST), 200, KEEPS),
    "9110 15.6.6 another major version": (lines("GET /health HTTP/2.0", HOST), 505, CLOSES),
    "9112 3 two blanks in the request line": (lines("GET  /health HTTP/1.1", HOST), 400, CLOSES),
    "9112 3 a tab in the request line": (lines("GET\t/health HTTP/1.1", HOST), 400, CLOSES),
    "9112 3 no target": (lines("GET HTTP/1.1", HOST), 400, CLOSES),
    "9112 3 a blank in the target": (lines("GET /he alth HTTP/1.1", HOST), 400, CLOSES),
    "9112 3 a blank behind the version": (lines(GET + " ", HOST), 400, CLOSES),
    "9112 3 no version": (lines("GET /health", HOST), 400, CLOSES),
    "9112 3 octets beyond ASCII in the target": (lines("GET /\xff HTTP/1.1", HOST), 400, CLOSES),
    "9112 3 a target that is too long": (lines(f"GET /{'a' * 20_000} HTTP/1.1", HOST), 414, CLOSES),
    "6585 5 headers that are too long": (lines(GET, HOST, f"X: {'a' * 20_000}"), 431, CLOSES),
    "9110 9.1 methods are case-sensitive": (lines("get /health HTTP/1.1", HOST), 501, CLOSES),
    "9112 3.1 a method that is no token": (lines("G@T /health HTTP/1.1", HOST), 400, CLOSES),
    "9110 15.5.6 a method that is not allowed": (lines("DELETE /health HTTP/1.1", HOST), 405, KEEPS),
    "9110 9.3.6 CONNECT": (lines("CONNECT a:80 HTTP/1.1", "Host: a:80"), 501, CLOSES),
    "9110 9.3.6 CONNECT to a path": (lines("CONNECT /health HTTP/1.1", HOST), 501, CLOSES),
    "9110 9.3.6 CONNECT to a WebSocket": (websocket(start="CONNECT /ws/lobby HTTP/1.1"), 501, CLOSES),
    "9110 9.3.7 the options of the server": (lines("OPTIONS * HTTP/1.1", HOST), 204, KEEPS),
    "9110 9.3.7 its options, without a Host": (lines("OPTIONS * HTTP/1.0"), 204, CLOSES),
    "9110 9.3.7 its options, with content": (lines("OPTIONS * HTTP/1.1", HOST, "Content-Length: 2", body="hi"), 204, KEEPS),
    "9112 3.2.4 its options, in the absolute form": (lines("OPTIONS http://a HTTP/1.1", HOST), 204, KEEPS),
    "9112 3.2.4 those of a path of one asterisk": (lines("OPTIONS /* HTTP/1.1", HOST), 404, KEEPS),
    "9112 3 a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00", 400, CLOSES),
    "9112 3 a byte that begins no method": (b"\xff", 400, CLOSES),
    "9112 3 a request line alone that is none": (b"hello\r\n", 400, CLOSES),
    "9112 3.2 no Host": (lines(GET), 400, CLOSES),
    "9112 3.2 two Hosts": (lines(GET, HOST, "Host: b"), 400, CLOSES),
    "9112 3.2 the same Host twice": (lines(GET, HOST, HOST), 400, CLOSES),
    "9112 3.2 an invalid Host": (lines(GET, "Host: a b"), 400, CLOSES),
    "9112 3.2 a Host with user information": (lines(GET, "Host: a@b"), 400, CLOSES),
    "9112 3.2 a Host with a path": (lines(GET, "Host: a/b"), 400, CLOSES),
    "9112 3.2 a Host beyond ASCII": (lines(GET, "Host: \xe4"), 400, CLOSES),
    "9112 3.2 a Host with a port that is no number": (lines(GET, "Host: a:b"), 400, CLOSES),
    "9112 3.2 a Host with two ports": (lines(GET, "Host: a:1:2"), 400, CLOSES),
    "9112 3.2 a Host with half of a pair of brackets": (lines(GET, "Host: [::1"), 400, CLOSES),
    "9112 3.2 a Host with nothing in brackets": (lines(GET, "Host: []"), 400, CLOSES),
    "9112 3.2 a Host with a bad percent code": (lines(GET, "Host: a%zz"), 400, CLOSES),
    "9112 3.2 a handshake with an invalid Host": (websocket(host="Host: a:b"), 400, CLOSES),
    "9112 3.2 a Host with an empty port": (lines(GET, "Host: a:"), 200, KEEPS),
    "9112 3.2 a target without a slash": (lines("GET health HTTP/1.1", HOST), 400, CLOSES),
    "9112 3.2 a target with a fragment": (lines("GET /health#a HTTP/1.1", HOST), 400, CLOSES),
    "9112 3.2 a handshake with a fragment": (websocket(start="GET /ws/lobby#a HTTP/1.1"), 400, CLOSES),
    "9112 3.2.3 the authority form is for CONNECT": (lines("GET a:80 HTTP/1.1", HOST), 400, CLOSES),
    "9112 3.2.4 the asterisk form is for OPTIONS": (lines("GET * HTTP/1.1", HOST), 400, CLOSES),
    "9110 4.2.1 the absolute form without a host": (lines("GET http:///health HTTP/1.1", HOST), 400, CLOSES),
    "9110 4.2.1 the absolute form with a port only": (lines("GET http://:80/health HTTP/1.1", HOST), 400, CLOSES),
    "9110 4.2.4 the absolute form with user information": (lines("GET http://u@a/health HTTP/1.1", HOST), 400, CLOSES),
    "9112 3.2 an empty Host": (lines(GET, "Host:"), 200, KEEPS),
    "9112 3.2 an IPv6 Host": (lines(GET, "Host: [::1]:80"), 200, KEEPS),
    "5891 4.2 a Host of IDNA 2008": (lines(GET, "Host: xn--strae-oqa.de"), 200, KEEPS),
    "9112 3.2.2 the absolute form": (lines("GET http://a/health HTTP/1.1", HOST), 200, KEEPS),
    "9112 3.2.2 the absolute form decides over the Host": (lines("GET http://a/health HTTP/1.1", "Host: b"), 200, KEEPS),
    "9112 5 no colon": (lines(GET, HOST, "X"), 400, CLOSES),
    "9112 5 no name": (lines(GET, HOST, ": a"), 400, CLOSES),
    "9112 5 a name that is no token": (lines(GET, HOST, "X(: a"), 400, CLOSES),
    "9112 5 names have no case": (lines(GET, "hOST: a"), 200, KEEPS),
    "9112 5 white space around a value": (lines(GET, "Host:\t a \t"), 200, KEEPS),
    "9112 5 an empty value": (lines(GET, HOST, "X:"), 200, KEEPS),
    "9112 5.1 a blank before the colon": (lines(GET, HOST, "X : a"), 400, CLOSES),
    "9112 5.1 a tab before the colon": (lines(GET, HOST, "X\t: a"), 400, CLOSES),
    "9112 5.1 a blank before the colon of a length": (lines(POST, HOST, AUTH, JSON, "Content-Length : 15", body=BODY), 400, CLOSES),
    "9112 5.2 a line that continues another": (lines(GET, HOST, "X: a", " b"), 400, CLOSES),
    "9112 5.2 one that continues another with a tab": (lines(GET, HOST, "X: a", "\tb"), 400, CLOSES),
    "9110 5.5 NUL in a value": (lines(GET, HOST, "X: a\0"), 400, CLOSES),
    "9112 6 content by its length": (lines(POST, HOST, AUTH, JSON, "Content-Length: 15", body=BODY), 200, KEEPS),
    "9112 6 content in chunks": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 200, KEEPS),
    "9112 6.1 the coding has no case": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: CHUNKED", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 200, KEEPS),
    "9112 6.1 chunked in HTTP/1.0": (lines(POST[:-1] + "0", HOST, AUTH, JSON, "Transfer-Encoding: chunked", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 400, CLOSES),
    "9112 6.1 both length and coding": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked", "Content-Length: 15", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 400, CLOSES),
    "9112 6.1 a coding that is not known": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 501, CLOSES),
    "9112 6.1 chunked twice": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked, chunked", body="0\r\n\r\n"), 400, CLOSES),
    "9112 6.1 chunked twice, in two lines": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"), 400, CLOSES),
    "9112 6.3 the last coding is not chunked": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked, gzip", body="0\r\n\r\n"), 400, CLOSES),
    "9112 6.3 a coding that is not chunked": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: gzip", body="0\r\n\r\n"), 400, CLOSES),
    "9112 6.3 an empty coding": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding:", body="0\r\n\r\n"), 400, CLOSES),
    "9110 5.6.1 a coding among empty members": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: ,\tchunked , ,", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 200, KEEPS),
    "9110 5.6.1 a coding beside an empty line": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding:", "Transfer-Encoding: chunked", body=f"f\r\n{BODY}\r\n0\r\n\r\n"), 200, KEEPS),
    "9110 5.6.1 empty members alone are no coding": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: , ,", body="0\r\n\r\n"), 400, CLOSES),
    "9110 5.6.1 an option among empty members": (lines(GET, HOST, "Connection: ,close,"), 200, CLOSES),
    "9110 5.6.1 a handshake with empty members": (websocket(upgrade="Upgrade: , websocket,", connection="Connection: ,Upgrade,"), 101, KEEPS),
    "9112 6.3 a length that is no number": (lines(POST, HOST, AUTH, JSON, "Content-Length: a"), 400, CLOSES),
    "9112 6.3 a length with a sign": (lines(POST, HOST, AUTH, JSON, "Content-Length: +15", body=BODY), 400, CLOSES),
    "9112 6.3 an empty length": (lines(POST, HOST, AUTH, JSON, "Content-Length:"), 400, CLOSES),
    "9112 6.3 two lengths that differ": (lines(POST, HOST, AUTH, JSON, "Content-Length: 15", "Content-Length: 16", body=BODY), 400, CLOSES),
    "9112 6.3 two lengths that differ, in one line": (lines(POST, HOST, AUTH, JSON, "Content-Length: 15, 16", body=BODY), 400, CLOSES),
    "9112 6.3 the same length twice": (lines(POST, HOST, AUTH, JSON, "Content-Length: 15, 15", body=BODY), 200, KEEPS),
    "9112 7.1 a size that is no number": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked", body="x\r\n"), 400, CLOSES),
    "9112 7.1.1 an extension is ignored": (lines(POST, HOST, AUTH, JSON, "Transfer-Encoding: chunked", body=f"f;a=b\r\n{BODY}\r\n0\r\n\r\n"), 200, KEEPS),
    "9112 9.3 close": (lines(GET, HOST, "Connection: close"), 200, CLOSES),
    "9112 9.3 close among others": (lines(GET, HOST, "Connection: x, Close"), 200, CLOSES),
    "9112 9.3 HTTP/1.0 closes": (lines("GET /health HTTP/1.0"), 200, CLOSES),
    "9112 9.6 what comes behind the last request": (lines(GET, HOST, "Connection: close") + b"\r\nrubbish", 200, CLOSES),
    "9112 9.6 another request behind the last": (lines("GET /health HTTP/1.0") + lines(GET, HOST), 200, CLOSES),
    "9110 7.8 another protocol is passed over": (lines(GET, HOST, "Upgrade: h2c", CONNECTION), 200, KEEPS),
    "9110 7.8 Upgrade in HTTP/1.0 is ignored": (websocket(start="GET /ws/lobby HTTP/1.0"), 426, CLOSES),
    "9110 7.8 one protocol of several": (websocket(upgrade="Upgrade: h2c, websocket"), 101, KEEPS),
    "9110 7.8 protocols in two lines": (websocket("Upgrade: websocket", upgrade="Upgrade: h2c"), 101, KEEPS),
    "9110 7.8 content with an upgrade": (websocket("Content-Length: 5", body="hello"), 400, CLOSES),
    "9110 7.8 chunks with an upgrade": (websocket("Transfer-Encoding: chunked", body="0\r\n\r\n"), 400, CLOSES),
    "9110 8.6 no content, said so": (websocket("Content-Length: 0"), 101, KEEPS),
    "6455 4.2.1 a handshake": (websocket(), 101, KEEPS),
    "6455 4.2.1 in the absolute form": (websocket(start="GET http://a/ws/lobby HTTP/1.1"), 101, KEEPS),
    "6455 4.2.1 1 another method": (websocket(start="POST /ws/lobby HTTP/1.1"), 400, CLOSES),
    "6455 4.2.1 1 HEAD": (websocket(start="HEAD /ws/lobby HTTP/1.1"), 400, CLOSES),
    "6455 4.2.1 2 no Host": (websocket(host=""), 400, CLOSES),
    "6455 4.2.1 2 two Hosts": (websocket("Host: a"), 400, CLOSES),
    "6455 4.2.1 3 no Upgrade": (websocket(upgrade=""), 426, KEEPS),
    "6455 4.2.1 3 the protocol has no case": (websocket(upgrade="Upgrade: WebSOCKET"), 101, KEEPS),
    "6455 4.2.1 3 another protocol": (websocket(upgrade="Upgrade: websockets"), 426, KEEPS),
    "6455 4.2.1 4 no Connection": (websocket(connection=""), 400, CLOSES),
    "6455 4.2.1 4 the option has no case": (websocket(connection="Connection: uPGRADE"), 101, KEEPS),
    "6455 4.2.1 4 one option of several": (websocket(connection="Connection: keep-alive, Upgrade"), 101, KEEPS),
    "6455 4.2.1 4 options in two lines": (websocket("Connection: Upgrade", connection="Connection: keep-alive"), 101, KEEPS),
    "6455 4.2.1 4 another option": (websocket(connection="Connection: upgraded"), 400, CLOSES),
    "6455 4.2.1 5 no key": (websocket(key=""), 400, CLOSES),
    "6455 4.2.1 5 an empty key": (websocket(key="Sec-WebSocket-Key:"), 400, CLOSES),
    "6455 4.2.1 5 a key that is no base64": (websocket(key="Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), 400, CLOSES),
    "6455 4.2.1 5 a key of 15 bytes": (websocket(key="Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, CLOSES),
    "6455 4.2.1 5 a key of 17 bytes": (websocket(key="Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, CLOSES),
    "6455 11.3.1 two keys": (websocket(KEY_LINE), 400, CLOSES),
    "6455 4.2.1 6 no version": (websocket(version=""), 400, CLOSES),
    "6455 4.2.2 another version": (websocket(version="Sec-WebSocket-Version: 8"), 426, CLOSES),
    "6455 4.2.2 a version that is no number": (websocket(version="Sec-WebSocket-Version: 013"), 426, CLOSES),
    "6455 11.3.5 two versions": (websocket(VERSION), 400, CLOSES),
    "6455 4.2.1 7 an origin": (websocket("Origin: https://a.example"), 101, KEEPS),
    "6455 4.2.1 8 subprotocols": (websocket("Sec-WebSocket-Protocol: a, greenroom.v1"), 101, KEEPS),
    "6455 4.2.1 8 subprotocols in two lines": (websocket("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"), 101, KEEPS),
    "6455 4.2.1 8 subprotocols beyond ASCII": (websocket("Sec-WebSocket-Protocol: \xe4"), 400, CLOSES),
    "6455 4.2.1 8 a subprotocol that is no token": (websocket("Sec-WebSocket-Protocol: a b"), 400, CLOSES),
    "6455 4.2.1 4 an option that is no token": (websocket(connection="Connection: Upgrade, a b"), 400, CLOSES),
    "6455 9.1 an extension that is none": (websocket("Sec-WebSocket-Extensions: ;;"), 400, CLOSES),
    "6455 9.1 a parameter that is none": (websocket("Sec-WebSocket-Extensions: a; b="), 400, CLOSES),
    "6455 9.1 a quoted parameter": (websocket('Sec-WebSocket-Extensions: a; b="c", d;e = f'), 101, KEEPS),
    "6455 4.2.1 9 extensions are not taken": (websocket("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), 101, KEEPS),
    "6455 4.2.1 10 other headers are ignored": (websocket("Cookie: a=b", "X-Forwarded-For: 10.0.0.1"), 101, KEEPS),
    "6455 4.2.1 a line that continues another": (websocket("Sec-WebSocket-Protocol: a,", " b"), 400, CLOSES),
    "6455 4.2.1 an empty line before": (b"\r\n" + websocket(), 101, KEEPS),
}  # fmt: skip

PLACES: dict[str, bytes] = {
    "first": b"",
    "later": BEFORE["get"],
    "behind content": BEFORE["content"],
    "behind chunks": BEFORE["chunks"],
}


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "later"])
def is_pipelined(request: pytest.FixtureRequest) -> bool:
    """Whether the request comes together with the one before it."""
    return bool(request.param)


@pytest.mark.parametrize("place", PLACES)
async def test_every_row_has_the_same_answer_on_every_way(serve, place, is_pipelined):
    found = {}
    async with serve() as served:
        for row, (request, _, _) in ROWS.items():
            found[row] = await ask(served, PLACES[place], request, is_pipelined=is_pipelined)
    expected = {row: (status, ending) for row, (_, status, ending) in ROWS.items()}
    assert found == expected


async def ask(served: Served, before: bytes, request: bytes, *, is_pipelined: bool) -> tuple[int, str]:
    """Return the status of the answer, and whether the connection is kept."""
    async with dial(served) as stream:
        peer = KeptPeer(stream)
        if before and not is_pipelined:
            await peer.send(before)
            assert await peer.read_response() == 200
        await peer.send(request if before and not is_pipelined else before + request)
        if before and is_pipelined:
            assert await peer.read_response() == 200
        status = await peer.read_response()
        if status == 101:
            return status, KEEPS
        try:
            await peer.send(BEFORE["get"])
            return status, KEEPS if await peer.read_response() == 200 else CLOSES
        except (AssertionError, trio.BrokenResourceError):
            return status, CLOSES


@pytest.mark.parametrize("place", PLACES)
async def test_another_version_is_told_which_one_is_spoken(serve, place):
    """RFC 6455 section 4.2.2: with a list of the versions that the server speaks."""
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        await peer.send(PLACES[place] + websocket(version="Sec-WebSocket-Version: 8"))
        if place != "first":
            assert await peer.read_response() == 200
        answer = peer.received + await peer.read_eof()
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer


@pytest.mark.parametrize("place", PLACES)
async def test_100_comes_before_101(serve, place):
    """RFC 9110 section 7.8: a request with both Upgrade and Expect."""
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        await peer.send(PLACES[place] + websocket("Expect: 100-continue"))
        if place != "first":
            assert await peer.read_response() == 200
        assert [await peer.read_response(), await peer.read_response()] == [100, 101]
