"""Nobody can tell whether lines were answered in the fast path, or by hypercorn and Quart; see test_both_ways.py."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from broker.http.api.batch import LOOK_AHEAD_LINES
from tests.engine.poison import ERRORS, PoisonedEngine
from tests.http.test_rooms import DownEngine, StuckEngine
from tests.http.ways import BODY, KEEP_ALIVE_SECONDS, REQUEST_SECONDS, SETTINGS, compare, lines, post

GET = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"


def line(room="lobby", message=BODY, more=b"", end=b"\n"):
    return b'{"room":"%b","message":%b%b}%b' % (room.encode(), message, more, end)


WITH_ID = line(more=b',"id":"order-5"')
SMALL = line("a", b'{"type":"x"}')

PLAIN = {
    "a line": lines(line()),
    "several": lines(line(), line("a"), line()),
    "the longest look ahead": lines(b"{\n" * (LOOK_AHEAD_LINES - 1) + b"{"),
    "a line without an end": lines(line(), line(end=b"")),
    "CRLF": lines(line(end=b"\r\n"), line(end=b"\r\n")),
    "CRs alone": lines(line(end=b"\r"), line()),
    "no line": lines(),
    "blank lines alone": lines(b"\n \n\r\n\t\n"),
    "blank lines between": lines(b"\n", line(), b"\r\n \n", line(), b"\n"),
    "a bad line between": lines(line(), b"{\n", line()),
    "bad lines alone": lines(b"{\n", b"[]\n", b"1\n", b"\xff\n"),
    "the largest content": lines(SMALL, b" " * (2000 - len(SMALL))),
    "a bad room": lines(line("a/b"), line("r" * 200), line("")),
    "an id": lines(WITH_ID),
    "an id twice": lines(WITH_ID, line(), WITH_ID),
    "the same id later": lines(WITH_ID) + lines(WITH_ID) + post("Idempotency-Key: order-5"),
    "ids that are numbers": lines(line(more=b',"id":7'), line(more=b',"id":"7"'), line(more=b',"id":-1')),
    "bad ids": lines(
        *(line(more=b',"id":%b' % bad) for bad in (b'""', b"[]", b"1.5", b"true", b'"%b"' % (b"x" * 129)))
    ),
    "unknown fields": lines(line(more=b',"other":[1]')),
    "an idempotency key that counts for nothing": lines(line(), headers=["Idempotency-Key: 1"]) * 2,
    "an idempotency key that would be refused": lines(line(), headers=["Idempotency-Key: " + "k" * 200]),
    "no type of content": lines(line(), content_type=""),
    "capitals in the type": lines(line(), content_type="Content-Type: Application/X-NDJSON"),
    "an origin": lines(line(), headers=["Origin: https://a.example"]),
    "several requests": lines(line()) * 5,
    "among others": lines(line()) + post() + lines(line("b")) + GET + lines(line()),
    "before nonsense": lines(line()) + b"nonsense\r\n\r\n",
    "a length that is too short": lines(line(), line(), length=f"Content-Length: {len(line()) + 3}"),
    "before half a content": lines(line()) + lines(line())[:-5],
}
PLAIN |= {
    f"the type {kind}": lines(line(), content_type=f"Content-Type: application/{kind}")
    for kind in ("ndjson", "jsonl", "json-lines")
}
PLAIN |= {
    f"a message that is {name}": lines(line(message=message), line())
    for name, message in {
        "of the protocol": b'{"type":"chat"}',
        "no object": b"[1]",
        "without a type": b"{}",
        "no UTF-8": b'{"type":"\xff"}',
        "half of a surrogate pair": b'{"type":"note","x":"\\ud800"}',
        "too deep": b'{"type":"note","x":%b1%b}' % (b"[" * 70, b"]" * 70),
    }.items()
}
"""Requests whose first is answered in the fast path."""

OTHERS = {
    "one line more than the look ahead": lines(b"{\n" * LOOK_AHEAD_LINES),
    "blank lines beyond the look ahead": lines(b"\n" * LOOK_AHEAD_LINES, line()),
    "a line that is too long": lines(line(), b"x" * 2001, b"\n", line()),
    "content over the limit, of short lines": lines(*[line()] * 60),
    "chunks": lines(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(line()), line()), headers=["Transfer-Encoding: chunked"], length=""
    ),
    "chunks and a length": lines(line(), headers=["Transfer-Encoding: chunked"]),
    "no length": lines(length=""),
    "a type of JSON": lines(line(), content_type="Content-Type: application/json"),
    "a type with a parameter": lines(
        line(), content_type="Content-Type: application/x-ndjson; charset=utf-8"
    ),
    "another type": lines(line(), content_type="Content-Type: text/csv"),
    "compressed": lines(line(), headers=["Content-Encoding: gzip"]),
    "a query": lines(line(), start="POST /api/messages?ephemeral=1 HTTP/1.1"),
    "an empty query": lines(line(), start="POST /api/messages? HTTP/1.1"),
    "a slash at the end": lines(line(), start="POST /api/messages/ HTTP/1.1"),
    "another method": lines(line(), start="PUT /api/messages HTTP/1.1"),
    "HTTP/1.0": lines(line(), start="POST /api/messages HTTP/1.0"),
    "no key": lines(line(), key=""),
    "a wrong key": lines(line(), key="Authorization: Bearer wrong"),
    "100-continue": lines(line(), headers=["Expect: 100-continue"]),
    "the last of a connection": lines(line(), headers=["Connection: close"]),
    "lines to the room's path": post(content_type="Content-Type: application/x-ndjson"),
}
"""Requests that hypercorn answers."""


def test_plain_lines():
    http = SETTINGS["http"] | {"cors_origins": ["https://a.example"]}
    scripts = {name: [request] for name, request in PLAIN.items()}
    for name, seen in compare(scripts, settings={"http": http}).items():
        assert seen.fast_answers >= 1, name
        assert seen.statuses[0] == 200, name


def test_other_requests():
    scripts = {name: [request] for name, request in OTHERS.items()}
    scripts |= {f"{name}, later": [lines(line()), request] for name, request in OTHERS.items()}
    for name, seen in compare(scripts).items():
        assert seen.fast_answers == (1 if name.endswith(", later") else 0), name


REQUEST = lines(line(), b"{\n", line("b"))


@pytest.mark.parametrize("seconds", [0, 1])
def test_any_two_pieces(seconds):
    """What comes late is answered while it comes."""
    compare(
        {str(cut): [REQUEST[:cut], seconds, REQUEST[cut:], 1, post()] for cut in range(0, len(REQUEST), 17)}
    )


@pytest.mark.parametrize("end", ["eof", 60, b"x"])
def test_any_beginning_of_a_request(end):
    """Cut off, left alone, or gone on with as something else."""
    compare({str(cut): [post() + REQUEST[:cut], end] for cut in range(1, len(REQUEST), 37)})


@pytest.mark.parametrize("pause", [KEEP_ALIVE_SECONDS - 1, KEEP_ALIVE_SECONDS + 1])
def test_a_kept_connection_that_is_idle(pause):
    steps = [lines(line()), pause, lines(line()), pause, GET]
    seen = compare({"idle": steps})["idle"]
    assert len(seen.statuses) == (3 if pause < KEEP_ALIVE_SECONDS else 1)


async def start_rooms(world):
    for room in ("lobby", "a"):
        await world.rooms.inspect(room)


def go_on(world):
    world.services.engine.go_on.set()


def stop(world):
    world.served.http.begin_stop()


def drain(world):
    world.draining.set()


def fail(world):
    world.services.engine.is_down = True


MIXED = lines(b"{\n", line(), line("new"), line("a"), b"{\n", line("new"))


@pytest.mark.parametrize("before", [start_rooms, None])
@pytest.mark.parametrize(
    "steps",
    [
        [MIXED, go_on],
        [MIXED, 1, go_on],
        [go_on, MIXED],
        [MIXED, REQUEST_SECONDS + 1, GET],
        [MIXED, post(), 1, go_on],
        [MIXED + GET, 1, go_on],
        [MIXED, 1, stop, 1, go_on],
        [MIXED, stop, go_on],
        [go_on, MIXED, stop, MIXED],
        [MIXED[:-5], stop, 1, MIXED[-5:], go_on],
        [MIXED, 5, "eof", 5, go_on],
        [MIXED, 5, "eof", stop, 5, go_on],
        [drain, MIXED, 1, go_on],
        [MIXED, 1, drain, 1, go_on, GET],
    ],
)
def test_stops_and_waits(steps, before):
    """An engine that lets its clients wait: the results that are there are sent before those that are waited for."""
    compare({"steps": steps}, make_engine=StuckEngine, before=before)


@pytest.mark.parametrize("before", [start_rooms, None])
def test_an_engine_that_is_away(before):
    seen = compare({"away": [fail, MIXED, 1, lines(line())]}, make_engine=DownEngine, before=before)["away"]
    assert seen.fast_answers == 2
    assert seen.statuses == [200, 200]


@pytest.mark.parametrize("make_error", ERRORS)
def test_an_engine_with_a_fault(make_error):
    """The answer is cut off where a room cannot be started, with the same line in the log."""

    def poison(world):
        world.services.engine.make_error = make_error

    scripts = {"poisoned": [lines(line()), poison, lines(line()), 1, MIXED, 1, post()]}
    assert compare(scripts, make_engine=PoisonedEngine)["poisoned"].fast_answers >= 1


REQUESTS = st.builds(
    lambda parts, length: lines(*parts, length=f"Content-Length: {sum(map(len, parts)) + length}"),
    st.lists(
        st.builds(
            line, st.sampled_from(["lobby", "a", "b", "", "/"]), end=st.sampled_from([b"\n", b"\r\n", b""])
        )
        | st.sampled_from([WITH_ID, b"\n", b" ", b"{\n", b"\r", b"x" * 900]),
        max_size=5,
    ),
    st.sampled_from([0, 0, 0, -1, 1]),
)


@st.composite
def scripts(draw):
    """Return requests of any lines, in any pieces with pauses in between."""
    whole = b"".join(draw(st.lists(REQUESTS | st.sampled_from([post(), GET]), min_size=1, max_size=4)))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    steps = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        steps += [whole[begin:end], draw(st.sampled_from([0, 0, 1, REQUEST_SECONDS + 1]))]
    return [*steps, draw(st.sampled_from([0, "eof", 1]))]


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.generate],
)
@given(st.lists(scripts(), min_size=3, max_size=8))
def test_any_lines_in_any_pieces(found):
    # Many on one server, which takes longer to open than to answer.
    compare({str(steps): steps for steps in found})
