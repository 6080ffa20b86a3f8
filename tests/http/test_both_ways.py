"""Nobody can tell whether a post was answered in the fast path, or by hypercorn and Quart: neither its client, nor logs and metrics."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.poison import ERRORS, PoisonedEngine
from tests.http.test_rooms import DownEngine, StuckEngine
from tests.http.ways import BODY, KEEP_ALIVE_SECONDS, PATH, REQUEST_SECONDS, SETTINGS, compare, post
from tests.support.secrets import API_KEY as KEY

GET = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
BROADCAST = "POST /api/broadcast HTTP/1.1"


def start(target: str, version: str = "1.1") -> str:
    return f"POST {target} HTTP/{version}"


def broadcast(rooms: str = '["a","b"]', message: bytes = BODY) -> bytes:
    return b'{"rooms":%b,"message":%b}' % (rooms.encode(), message)


def tags(count: int) -> str:
    return quote(json.dumps({f"name {number}": "é" * 64 for number in range(count)}))


PLAIN_QUERIES = [
    "tags=%7B%7D",
    "tags=%7b%22kind%22%3a%22goal%22%7d",
    "tags=%7B%22kind%22:+%22%2B+%5Cu00e9%22%7D",
    "tags=%7B%22a%22:%22b%22,%22a%22:%22c%22%7D",
    f"tags={tags(8)}",
    "exclude_user=ann",
    "exclude_user=a%00%0A+b%2525",
    "exclude_user=null",
    f"exclude_user={'%C3%A9' * 128}",
    "exclude_connection=5b0c3a-12",
    "exclude_connection=1",
    f"exclude_connection=c&ephemeral=1&tags={tags(1)}&exclude_user=%F0%9F%92%A9",
]
"""Queries that are read in the fast path."""

OTHER_QUERIES = [
    "tags",
    "tags=",
    "tags=%7B",
    "tags=null",
    "tags=%5B%5D",
    "tags={}",
    'tags={"a":"b"}',
    "tags=%7B%22a%22:1%7D",
    "tags=%7B%22%22:%22b%22%7D",
    "tags=%7B%22a%22:%22%5Cud800%22%7D",
    "tags=%7B%22a%22:%22\\n%22%7D",
    "tags=%7B%22a%22:%22%ff%22%7D",
    "tags=%7B%22a%22:%22%zz%22%7D",
    "tags=%7B%7D%",
    "tags=%7B%7D%7B%7D",
    "tags=%00",
    f"tags={tags(9)}",
    f"tags={quote(json.dumps({'a': 'b' * 65}))}",
    f"tags={'%5B' * 100}",
    "tags=%7B%7D&tags=%7B%22a%22:%22b%22%7D",
    "Tags=%7B%7D",
    "t%61gs=%7B%22a%22:%22b%22%7D",
    "tags=%7B%7D;exclude_user=a",
    "tags=%7B%7D&",
    "&tags=%7B%7D",
    "tags=%7B%7D&&exclude_user=a",
    "tags=%7B%7D&ephemeral=2",
    "tags=%7B%7D&ephemeral=true",
    "tags=%7B%7D&epehmeral=1",
    "exclude_user",
    "exclude_user=",
    "exclude_user=%ff",
    "exclude_user=%ED%A0%80",
    "exclude_user=%zz",
    "exclude_user=\xe9",
    f"exclude_user={'a' * 129}",
    "exclude_user=a&exclude_user=b",
    "exclude_users=a",
    "exclude_connection=",
    f"exclude_connection={'%C3%A9' * 129}",
]
"""Queries that only the routes read."""

PLAIN = {
    "a post": post(),
    "ephemeral": post(start=start(PATH + "?ephemeral=1")),
    **{f"the query {query}": post(start=start(f"{PATH}?{query}")) for query in PLAIN_QUERIES},
    "tags of a broadcast": post(start=f"POST /api/broadcast?{PLAIN_QUERIES[-1]} HTTP/1.1", body=broadcast()),
    "with a key": post("Idempotency-Key: order-5"),
    "the same key twice": post("Idempotency-Key: order-5") * 2,
    "the longest key": post(f"Idempotency-Key: {'k' * 128}"),
    "a key with blanks within": post("Idempotency-Key: \ta  b \t"),
    "no type of content": post(content_type=""),
    "a charset": post(content_type="Content-Type: application/json; charset=UTF-8"),
    "names in any case": post("IDEMPOTENCY-KEY: 1", host="hOST: test", key=f"authorization: bearer {KEY}"),
    "keep-alive": post("Connection: Keep-Alive"),
    "headers of clients and proxies": post(
        "User-Agent: x/1 (y; z)",
        "Accept: */*",
        "Accept-Encoding: gzip, br",
        "X-Forwarded-For: 10.1.1.1, 10.2.2.2",
        "Via: 1.1 a",
        "traceparent: 00-1-2-03",
    ),
    "an event stream is accepted": post("Accept: text/event-stream"),
    "an origin": post("Origin: https://a.example"),
    "a percent-encoded room": post(start=start("/api/rooms/a%20b%3Ac%C3%A9/messages")),
    "a room with a percent sign": post(start=start("/api/rooms/100%25/messages")),
    "percent signs that encode nothing": post(start=start("/api/rooms/%zz%/messages")),
    "a room with a query's and a fragment's signs": post(start=start("/api/rooms/a%3Fb%23c/messages")),
    "a room with all the signs of a path": post(start=start("/api/rooms/-._~!$&'()*+,;=:@/messages")),
    "a private room": post(start=start("/api/rooms/user_7/messages")),
    "fields that are taken out": post(
        body=b'{"type":"note","room":"x","offset":7,"epoch":"z","time":1,"n":2}'
    ),
    "the largest content": post(body=b'{"type":"note","x":"%b"}' % (b"x" * (2000 - 22))),
    "a broadcast": post(start=BROADCAST, body=broadcast()),
    "an ephemeral broadcast": post(start=BROADCAST.replace(" HTTP", "?ephemeral=1 HTTP"), body=broadcast()),
    "a broadcast with a bad room": post(start=BROADCAST, body=broadcast('["a","","b/c"]')),
    "a broadcast with a key": post("Idempotency-Key: 1", start=BROADCAST, body=broadcast()) * 2,
    "an IPv6 host": post(host="Host: [::1]:80"),
    "several": post() * 5,
    "before another request": post() + GET,
    "before nonsense": post() + b"nonsense\r\n\r\n",
    "before half a head": post() + b"POST /api",
    "before half a content": post() + post()[:-5],
    "before a refused one": post() + post(body=b"{") + post(),
    "before an upgrade": post() + GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + post(),
}
"""Requests whose first is answered in the fast path."""

SMUGGLED = post(start=start("/api/rooms/smuggled/messages"))

OTHERS = {
    "nothing": b"",
    "a get": GET,
    "an empty line before it": b"\r\n" + post(),
    "bare line feeds": post().replace(b"\r\n", b"\n"),
    "no key": post(key=""),
    "a wrong key": post(key="Authorization: Bearer wrong"),
    "a wrong key without its content": post(
        key="Authorization: Bearer wrong", body=b"", length="Content-Length: 9"
    ),
    "another scheme": post(key=f"Authorization: Basic {KEY}"),
    "two keys": post("Authorization: Bearer wrong"),
    "a bad room": post(start=start("/api/rooms/%00/messages")),
    "a room that is too long": post(start=start(f"/api/rooms/{'r' * 129}/messages")),
    "a dot": post(start=start("/api/rooms/./messages")),
    "two dots": post(start=start("/api/rooms/%2e%2e/messages")),
    "a slash in the room": post(start=start("/api/rooms/a%2Fb/messages")),
    "no UTF-8 in the room": post(start=start("/api/rooms/%ff/messages")),
    "half of a surrogate pair in the room": post(start=start("/api/rooms/%ED%A0%80/messages")),
    "two slashes": post(start=start("//api/rooms/lobby/messages")),
    "two slashes within": post(start=start("/api//rooms/lobby/messages")),
    "a slash at the end": post(start=start(PATH + "/")),
    "no room": post(start=start("/api/rooms//messages")),
    "another path": post(start=start("/api/rooms/lobby/message")),
    "capitals": post(start=start("/API/rooms/lobby/messages")),
    "encoded letters of the path": post(start=start("/api/rooms/lobby/%6dessages")),
    "parameters of the path": post(start=start(PATH + ";a=1")),
    "other queries": post(start=start(PATH + "?ephemeral=true")),
    "an empty query": post(start=start(PATH + "?")),
    "a bad query": post(start=start(PATH + "?ephemeral=2")),
    "two of a query": post(start=start(PATH + "?ephemeral=0&ephemeral=1")),
    **{f"the query {query}": post(start=start(f"{PATH}?{query}")) for query in OTHER_QUERIES},
    "the absolute form": post(start=start("http://test" + PATH)),
    "a fragment": post(start=start(PATH + "#a")),
    "HTTP/1.0": post(start=start(PATH, "1.0")),
    "HTTP/1.0 that is kept": post("Connection: keep-alive", start=start(PATH, "1.0")),
    "HTTP/1.2": post(start=start(PATH, "1.2")),
    "HTTP/2.0": post(start=start(PATH, "2.0")),
    "small letters": post(start=f"post {PATH} HTTP/1.1"),
    "another method": post(start=f"PUT {PATH} HTTP/1.1"),
    "the last of a connection": post("Connection: close") + post(),
    "the last, among others": post("Connection: keep-alive, close") + post(),
    "an offer to upgrade": post("Connection: Upgrade", "Upgrade: h2c"),
    "a websocket": post(
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "100-continue": post("Expect: 100-continue"),
    "another expectation": post("Expect: nothing"),
    "chunks": post("Transfer-Encoding: chunked", length="", body=b"15\r\n%b\r\n0\r\n\r\n" % BODY),
    "chunks and a length": post("Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a length and chunks": post(
        length="Content-Length: 5\r\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "a coding that is none": post("Transfer-Encoding: x", body=SMUGGLED),
    "a coding with a blank before the colon": post(
        "Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "a coding in a line that continues": post(
        "X: a", " Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "two lengths": post("Content-Length: 0", body=SMUGGLED),
    "two equal lengths": post(f"Content-Length: {len(BODY)}"),
    "a list of lengths": post(length="Content-Length: 21, 21"),
    "different lengths in a list": post(length="Content-Length: 21, 0"),
    "a signed length": post(length="Content-Length: +21"),
    "a negative length": post(length="Content-Length: -1"),
    "a length with zeros": post(length="Content-Length: 0021"),
    "a hexadecimal length": post(length="Content-Length: 0x15"),
    "a length with an underscore": post(length="Content-Length: 2_1"),
    "a length of other digits": post(length="Content-Length: \u00b2\u00b9"),
    "an empty length": post(length="Content-Length:"),
    "a huge length": post(length="Content-Length: " + "9" * 30),
    "a length over the limit": post(length="Content-Length: 2001"),
    "no length": post(length=""),
    "a length in the name of another": post("X-Content-Length: 5", length="Content_Length: 21"),
    "no host": post(host=""),
    "two hosts": post("Host: other"),
    "a bad host": post(host="Host: a b"),
    "a host with a path": post(host="Host: a/b"),
    "an empty host": post(host="Host:"),
    "another type": post(content_type="Content-Type: text/plain"),
    "a type of JSON": post(content_type="Content-Type: application/problem+json"),
    "an empty type": post(content_type="Content-Type:"),
    "two types": post("Content-Type: text/plain"),
    "compressed": post("Content-Encoding: gzip"),
    "not compressed": post("Content-Encoding: identity"),
    "an empty idempotency key": post("Idempotency-Key:"),
    "a key that is too long": post(f"Idempotency-Key: {'k' * 129}"),
    "two idempotency keys": post("Idempotency-Key: a", "Idempotency-Key: b"),
    "a key beyond ASCII": post("Idempotency-Key: \xe4"),
    "a cookie": post("Cookie: a=b"),
    "a header that nobody knows": post("Made-Up: yes"),
    "a line that continues": post("X-A: a", " b"),
    "NUL in a header": post("X-A: a\0b"),
    "a bare CR in a header": post("X-A: a\rb"),
    "a form feed in a header": post("X-A: a\x0cb"),
    "a header without a name": post(": a"),
    "no colon": post("X-A"),
    "a blank before the colon": post("X-A : a"),
    "octets beyond ASCII": post("X-A: \xff"),
    "a head that is too long": post(f"X-A: {'a' * 20_000}"),
    "a preflight": b"OPTIONS "
    + PATH.encode()
    + b" HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    "a tunnel": post(start="CONNECT test:80 HTTP/1.1"),
}
"""Requests whose first hypercorn answers."""

CONTENTS = {
    "nothing": b"",
    "no JSON": b"{",
    "nothing but a blank": b" ",
    "no object": b"[1]",
    "no type": b"{}",
    "an empty type": b'{"type":""}',
    "a type that is no text": b'{"type":1}',
    "a type of the protocol": b'{"type":"chat"}',
    "no UTF-8": b'{"type":"\xff"}',
    "half of a surrogate pair": b'{"type":"note","x":"\\ud800"}',
    "a number out of range": b'{"type":"note","x":1e999}',
    "too deep": b'{"type":"note","x":%b1%b}' % (b"[" * 70, b"]" * 70),
    "two values": b'{"type":"note"}{}',
}


@pytest.mark.parametrize("origins", [[], ["https://a.example"], ["*"]], ids=len)
def test_plain_posts(origins):
    http = SETTINGS["http"] | {"cors_origins": origins}
    for name, seen in compare(
        {name: [request] for name, request in PLAIN.items()}, settings={"http": http}
    ).items():
        assert seen.fast_answers >= 1, name
        assert seen.statuses[0] == 200, name


def test_other_requests():
    scripts = {name: [request] for name, request in OTHERS.items()}
    scripts |= {f"{name}, later": [post(), request] for name, request in OTHERS.items()}
    for name, seen in compare(scripts).items():
        assert seen.fast_answers == (1 if name.endswith(", later") else 0), name
        assert "smuggled" not in seen.rooms, name


def test_contents_that_are_refused():
    scripts = {name: [post(body=content), post()] for name, content in CONTENTS.items()}
    scripts |= {
        f"{name}, in a broadcast": [post(start=BROADCAST, body=broadcast(message=content)), post()]
        for name, content in CONTENTS.items()
    }
    for name, seen in compare(scripts).items():
        assert seen.fast_answers == 2, name
        assert seen.statuses[0] in {400, 422}, name
    compare({"a length that is too short": [post(length="Content-Length: 5"), post()]})


@pytest.mark.parametrize("is_over", [True, False])
def test_a_head_at_the_limit(is_over):
    limit = len(post()) - len(BODY) - is_over
    seen = compare({"two": [post() * 2]}, settings={"http": SETTINGS["http"] | {"head_bytes": limit}})["two"]
    assert seen.statuses == ([431] if is_over else [200, 200])


REQUEST = post("Idempotency-Key: 1") + post()


@pytest.mark.parametrize("seconds", [0, 1])
def test_any_two_pieces(seconds):
    compare(
        {
            str(cut): [REQUEST[:cut], seconds, REQUEST[cut:]]
            for cut in range(0, len(REQUEST), 1 if seconds else 7)
        }
    )


@pytest.mark.parametrize("end", ["eof", 60, b"x"])
def test_any_beginning_of_a_request(end):
    """Cut off, left alone, or gone on with as something else."""
    compare({str(cut): [post() + post()[:cut], end] for cut in range(1, len(post()), 3)})


def test_octet_by_octet():
    compare({"slowly": [step for octet in REQUEST for step in (bytes([octet]), 0.01)]})


@pytest.mark.parametrize("seconds", [1, REQUEST_SECONDS - 1, REQUEST_SECONDS + 1])
def test_content_that_comes_slowly(seconds):
    head = post()[: -len(BODY)]
    steps = [head, seconds / 2, BODY[:5], seconds / 2, BODY[5:], 1, post()]
    seen = compare({"slowly": steps})["slowly"]
    assert seen.fast_answers >= 1
    assert seen.statuses[0] == (200 if seconds < REQUEST_SECONDS else 408)


@pytest.mark.parametrize("seconds", [KEEP_ALIVE_SECONDS - 1, KEEP_ALIVE_SECONDS, KEEP_ALIVE_SECONDS + 1])
def test_content_that_is_refused_after_the_idle_time(seconds):
    """A connection with an open request is not idle, whatever becomes of the request."""
    requests = {name: post(body=content) for name, content in CONTENTS.items() if content}
    scripts = {name: [request[:-1], seconds, request[-1:], post()] for name, request in requests.items()}
    scripts |= {f"{name}, later": [post(), *steps] for name, steps in scripts.items()}
    for name, seen in compare(scripts).items():
        assert [status < 500 for status in seen.statuses] == [True] * (3 if name.endswith(", later") else 2)
    ends = {str(steps): steps for steps in ([HEAD, seconds, "eof"], [post(), HEAD, seconds, BODY[:5], "eof"])}
    compare(ends)


@pytest.mark.parametrize("pause", [KEEP_ALIVE_SECONDS - 1, KEEP_ALIVE_SECONDS + 1])
def test_a_kept_connection_that_is_idle(pause):
    firsts = {"plain": post(), "other": GET, "refused": post(key=""), "bad": post(body=b"{")}
    scripts = {name: [first, pause, post(), pause, GET, pause, post()] for name, first in firsts.items()}
    for seen in compare(scripts).values():
        assert len(seen.statuses) == (4 if pause < KEEP_ALIVE_SECONDS else 1)


def test_a_head_that_is_late():
    late = {
        "at once": [0],
        "at the end": [KEEP_ALIVE_SECONDS - 1, b"P"],
        "in between": [b"PO", KEEP_ALIVE_SECONDS - 1, b"ST"],
        "behind an empty line": [b"\r\n", 5, post()],
    }
    compare(late | {f"{name}, later": [post(), *steps] for name, steps in late.items()})


def test_the_ways_take_turns():
    steps = [post(), GET, post(), GET + post(), post(key=""), post(), post(), post() + GET]
    seen = compare({"turns": steps})["turns"]
    assert seen.fast_answers == 5
    assert seen.statuses == [200] * 5 + [401] + [200] * 4


def test_a_client_that_ends_its_side():
    ends = ([post()], [post() * 3], [GET + post()], [], [post()[:-1]], [post(), GET])
    compare({str(number): [*steps, "eof"] for number, steps in enumerate(ends)})


async def start_room(world):
    await world.rooms.inspect("lobby")


def fail_engine(world):
    engine = world.services.engine
    if isinstance(engine, DownEngine):
        engine.is_down = True


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("make_engine", [DownEngine, StuckEngine])
def test_an_engine_that_fails(make_engine, is_known):
    many = post(start=BROADCAST, body=broadcast('["lobby"]'))
    scripts = {
        name: [fail_engine, request, 1, post()] for name, request in {"one": post(), "many": many}.items()
    }
    found = compare(scripts, make_engine=make_engine, before=start_room if is_known else None)
    assert [seen.fast_answers for seen in found.values()] == [2, 2]
    assert [seen.statuses for seen in found.values()] == [[503, 503], [200, 503]]


@pytest.mark.parametrize("make_error", ERRORS)
def test_an_engine_with_a_fault(make_error):
    def poison(world):
        world.services.engine.make_error = make_error

    new = post(start=start("/api/rooms/new/messages"))
    found = compare({"poisoned": [post(), poison, post(), new]}, make_engine=PoisonedEngine)
    assert found["poisoned"].fast_answers >= 1


def go_on(world):
    world.services.engine.go_on.set()


def stop(world):
    world.served.http.begin_stop()


HEAD = post()[: -len(BODY)]


@pytest.mark.parametrize(
    "steps",
    [
        [stop],
        [post(), go_on, stop],
        [post(), stop, go_on],
        [post() * 3, stop, go_on],
        [post() + GET, stop, 1, go_on],
        [HEAD, stop, 1, BODY, go_on],
        [HEAD, stop, REQUEST_SECONDS + 1],
        [HEAD[:20], stop],
        [go_on, post(), stop, post()],
        [go_on, GET, stop, post()],
        [post(), 5, "eof", 5, go_on],
        [post(), 5, "eof", stop, 5, go_on],
        [post(), REQUEST_SECONDS + 1, post(), REQUEST_SECONDS + 1],
        [post(), 1, b"more of that", 1, go_on],
        [post(), 1, post(), 1, go_on, post()],
    ],
)
def test_stops_and_waits(steps):
    """A stop at each moment, and an engine that lets its clients wait."""
    compare({"steps": steps}, make_engine=StuckEngine, before=start_room)


HEADERS = st.sampled_from(
    [
        "Accept: */*",
        "Connection: keep-alive",
        "Connection: close",
        "Connection: upgrade",
        "Content-Length: 3",
        "Content-Type: application/json",
        "Content-Encoding: identity",
        "Cookie: a=b",
        "Expect: 100-continue",
        "Host: b",
        "Idempotency-Key: k",
        "Idempotency-Key: l",
        "Origin: https://a.example",
        "TE: trailers",
        "Transfer-Encoding: chunked",
        "Upgrade: h2c",
        "X-Real-IP: 10.0.0.1",
        "X-Method-Override: DELETE",
        "User-Agent: \xe4",
        " continued",
    ]
)
NAMES = st.text("ab%20/?#\xe9.:\ud800\n\0\u202e", max_size=6) | st.sampled_from(
    ["lobby", "a%2fb", "%c3%a9", "..", "user_1"]
)
PARAMETERS = st.builds(
    "{}={}".format,
    st.sampled_from(["tags", "tags", "exclude_user", "exclude_connection", "ephemeral", "x"]),
    st.sampled_from(
        ["1", "%7B%7D", "%7B%22a%22:%22b%22%7D", "%7B%22a%22:%22%C3%A9+%22%7D", "a%2Bb", "%", "%ff", "", "="]
    ),
)
QUERIES = st.lists(PARAMETERS, min_size=1, max_size=3).map(lambda parameters: "?" + "&".join(parameters))
REQUESTS = st.builds(
    lambda name, query, headers, key, body, length: post(
        *headers,
        start=start(
            f"/api/rooms/{name.encode(errors='replace').decode('latin-1').replace(chr(10), '%0a')}/messages{query}"
        ),
        key=f"Authorization: Bearer {key}",
        body=body,
        length=f"Content-Length: {len(body) + length}",
    ),
    NAMES,
    st.sampled_from(["", "?ephemeral=1", "?ephemeral=0", "?"]) | QUERIES,
    st.lists(HEADERS, max_size=3),
    st.sampled_from([KEY, KEY, KEY, "wrong"]),
    st.sampled_from([BODY, BODY, BODY, b"{}", b"", *CONTENTS.values()]),
    st.sampled_from([0, 0, 0, 0, -1, 1]),
)


@st.composite
def scripts(draw):
    """Return requests of any parts, in any pieces with pauses in between, and an end."""
    requests = draw(st.lists(REQUESTS | st.just(post()) | st.just(GET), min_size=1, max_size=4))
    whole = b"".join(requests)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    steps = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        steps += [
            whole[begin:end],
            draw(st.sampled_from([0, 0, 1, KEEP_ALIVE_SECONDS + 1, REQUEST_SECONDS + 1])),
        ]
    return [*steps, draw(st.sampled_from([0, "eof", 1]))]


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.generate],
)
@given(st.lists(scripts(), min_size=5, max_size=15))
def test_any_requests_in_any_pieces(found):
    # Many on one server, which takes longer to open than to answer.
    compare({str(steps): steps for steps in found})
