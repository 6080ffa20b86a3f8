"""The load generator counts exactly what a server does wrong, and nothing where it does nothing wrong."""

import json
import shutil
import ssl
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from outcome import capture
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from bench.errors import BenchError
from bench.load.dialect import NATIVE, Dialect
from bench.load.frames import client_frame
from bench.load.generator import Load, Result, compile_generator, generating
from tests.certificates import make_certificate

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
LOAD = Load(
    in_flight=8,
    warm_up_seconds=0.0,
    duration_seconds=0.3,
    connecting=1,
    connect_seconds=10.0,
    drain_seconds=1.0,
)
MEMBERS, PUBLISHER, LISTENER = 4, 0, 2
# Faults are among the first messages, which are all in flight at once: a slow machine has come to them as well.


class Fault(Enum):
    DROP = auto()
    DUPLICATE = auto()
    SWAP = auto()  # send it after the next one
    ALTER = auto()
    CUT = auto()
    LEAK = auto()  # send it to the other room as well
    CLOSE = auto()


@attrs.define
class FaultyRooms:
    """Rooms that do one wrong thing to a given sequence on its way to a given member."""

    faults: Mapping[tuple[int, int], Fault] = attrs.field(factory=dict)
    rooms: dict[str, dict[int, WebSocketConnection]] = attrs.field(factory=dict)
    held: dict[int, str] = attrs.field(factory=dict)
    pings: int = 0

    async def serve(self, request: WebSocketRequest) -> None:
        """Take `/ROOM/NUMBER`."""
        _, room, number = request.path.split("/")
        if room == "closed":
            await request.reject(403)
            return
        ws = await request.accept()
        members = self.rooms.setdefault(room, {})
        members[int(number)] = ws
        try:
            await ws.send_message(json.dumps({"type": "joined"}))
            while True:
                message = json.loads(await ws.get_message())
                if message["type"] == "ping":
                    await self.answer(ws, int(number))
                    continue
                text = message["text"]
                for member in list(members):
                    await self.deliver(room, member, text)
        except ConnectionClosed:
            members.pop(int(number), None)

    async def answer(self, ws: WebSocketConnection, member: int) -> None:
        self.pings += 1
        if self.faults.get((member, self.pings)) is not Fault.DROP:
            await ws.send_message(json.dumps({"type": "pong"}))

    async def deliver(self, room: str, member: int, text: str) -> None:
        held = self.held.pop(member, None)
        match self.faults.get((member, int(text.split(":")[2]))):
            case Fault.DROP:
                pass
            case Fault.DUPLICATE:
                await self.send(room, member, text, text)
            case Fault.SWAP:
                self.held[member] = text
            case Fault.ALTER:
                await self.send(room, member, text[:-1] + "y")
            case Fault.CUT:
                await self.send(room, member, text[:-1])
            case Fault.LEAK:
                other = "1" if room == "0" else "0"
                await self.send(room, member, text)
                await self.send(other, next(iter(self.rooms[other])), text)
            case Fault.CLOSE:
                await self.rooms[room].pop(member).aclose(4108, "too slow")
            case None:
                await self.send(room, member, text)
        if held is not None:
            await self.send(room, member, held)

    async def send(self, room: str, member: int, *texts: str) -> None:
        for text in texts:
            await self.rooms[room][member].send_message(
                json.dumps({"type": "chat", "text": text, "offset": 1})
            )


LINES = Dialect(
    hello='{"token":"{token}","room":"r{room}"}',
    welcome="subscribed",
    chat_before='{"room":"r{room}","text":"',
)


@attrs.define
class LineRooms:
    """Rooms that are named in each message, and send all that came at once as lines of one frame."""

    rooms: dict[str, list[WebSocketConnection]] = attrs.field(factory=dict)
    tokens: list[str] = attrs.field(factory=list)
    waiting: dict[str, list[str]] = attrs.field(factory=dict)
    most_lines: int = 0

    async def serve(self, request: WebSocketRequest) -> None:
        """Take any target."""
        ws = await request.accept()
        hello = json.loads(await ws.get_message())
        self.tokens.append(hello["token"])
        self.rooms.setdefault(hello["room"], []).append(ws)
        await ws.send_message('{}\n{"subscribed":{}}')
        async with trio.open_nursery() as nursery:
            # Within the nursery, which raises groups: before Python 3.12 suppress does not look into them.
            with suppress(ConnectionClosed):
                while True:
                    message = await ws.get_message()
                    room = json.loads(message)["room"]
                    self.waiting.setdefault(room, [json.dumps({"id": 1})]).append(message)
                    nursery.start_soon(self.send, room)

    async def send(self, room: str) -> None:
        await trio.testing.wait_all_tasks_blocked()
        lines = self.waiting.pop(room, [])
        self.most_lines = max(self.most_lines, len(lines))
        for member in self.rooms[room] if lines else ():
            with suppress(ConnectionClosed):
                await member.send_message("\n".join(lines))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="session")
def tls_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_generator(tmp_path_factory.mktemp("generator"), tls=True)
    except BenchError as error:
        if "install libssl-dev" not in str(error):
            raise
        pytest.skip("OpenSSL's headers are not there (libssl-dev)")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Four members in room 0 of whom the first publishes, and one in room 1 who speaks to himself."""
    lines = [f"0 {'publish' if number == PUBLISHER else 'listen'} /0/{number}\n" for number in range(MEMBERS)]
    path = tmp_path / "plan"
    path.write_text("".join([*lines, f"1 publish /1/{MEMBERS}\n"]))
    return path


def generate(
    program: Path,
    plan: Path,
    port: int,
    host: str = "127.0.0.1",
    load: Load = LOAD,
    dialect: Dialect = NATIVE,
    *,
    tls: bool = False,
) -> Result:
    with generating(
        program, load, host=host, port=port, plan=plan, core=None, dialect=dialect, tls=tls
    ) as events:
        *_, last = events
    assert isinstance(last, Result)
    return last


async def result_of(
    rooms: "FaultyRooms | LineRooms",
    program: Path,
    plan: Path,
    load: Load = LOAD,
    dialect: Dialect = NATIVE,
    *,
    tls: ssl.SSLContext | None = None,
) -> Result:
    """Load the rooms; they speak TLS with the context `tls`, if there is one."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, rooms.serve, "127.0.0.1", 0, ssl_context=tls, handler_nursery=nursery)
        )
        ended = await trio.to_thread.run_sync(
            partial(
                capture, generate, program, plan, server.port, load=load, dialect=dialect, tls=tls is not None
            )
        )
        nursery.cancel_scope.cancel()
    return ended.unwrap()


def faults_of(result: Result) -> dict[str, int]:
    names = ("lost", "duplicated", "out_of_order", "malformed", "strayed", "disconnected")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


@needs_compiler
async def test_a_good_server_is_found_faultless(program: Path, plan: Path) -> None:
    result = await result_of(FaultyRooms(), program, plan)
    assert faults_of(result) == {}
    assert result.other_frames == MEMBERS + 1
    # Every message of room 0 goes to four members, every one of room 1 to one.
    assert result.published <= result.delivered <= result.published * MEMBERS
    assert sum(count for _, count in result.latency_ns) == result.delivered
    assert result.latency_ns[-2][0] <= result.latency_max_ns <= result.latency_ns[-1][0]
    assert result.seconds == pytest.approx(LOAD.duration_seconds, rel=0.5)


@needs_compiler
async def test_all_lines_of_a_frame_count_and_rooms_and_tokens_are_named(
    program: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan"
    plan.write_text(
        "0 publish /?token=a&x=1\n0 publish /?room=0&token=b\n123456 publish /?token=c\n123456 listen /\n"
    )
    rooms = LineRooms()
    result = await result_of(rooms, program, plan, dialect=LINES)
    assert (sorted(rooms.tokens), sorted(rooms.rooms)) == (["", "a", "b", "c"], ["r000000", "r123456"])
    assert faults_of(result) == {}
    assert rooms.most_lines > 2


@needs_compiler
@pytest.mark.parametrize("member", [PUBLISHER, LISTENER])
@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({2: Fault.DROP}, {"lost": 1}),
        ({2: Fault.DROP, 3: Fault.DROP, 6: Fault.DROP}, {"lost": 3}),
        ({2: Fault.DUPLICATE, 3: Fault.DUPLICATE}, {"duplicated": 2}),
        ({2: Fault.SWAP, 4: Fault.SWAP, 6: Fault.SWAP}, {"out_of_order": 3}),
        (
            {2: Fault.DROP, 3: Fault.SWAP, 5: Fault.DUPLICATE},
            {"lost": 1, "out_of_order": 1, "duplicated": 1},
        ),
        ({2: Fault.ALTER, 4: Fault.CUT}, {"malformed": 2, "lost": 2}),
        ({2: Fault.LEAK, 3: Fault.LEAK}, {"strayed": 2}),
    ],
)
async def test_faults_are_counted_exactly(
    program: Path, plan: Path, member: int, faults: dict[int, Fault], expected: dict[str, int]
) -> None:
    rooms = FaultyRooms({(member, sequence): fault for sequence, fault in faults.items()})
    assert faults_of(await result_of(rooms, program, plan)) == expected


@needs_compiler
async def test_what_a_closed_connection_misses_is_lost(program: Path, plan: Path) -> None:
    result = await result_of(FaultyRooms({(LISTENER, 2): Fault.CLOSE}), program, plan)
    faults = faults_of(result)
    assert faults.pop("lost") > 0
    assert faults == {"disconnected": 1}
    assert result.close_code == 4108


@needs_compiler
@pytest.mark.parametrize("rate", [None, 200])
async def test_pings_are_counted_and_a_lost_answer_too(program: Path, plan: Path, rate: int | None) -> None:
    plan.write_text("0 ping /0/0\n")
    load = attrs.evolve(LOAD, rate=rate, duration_seconds=0.5)
    result = await result_of(FaultyRooms(), program, plan, load)
    assert faults_of(result) == {}
    assert result.published >= result.delivered > 0
    if rate is not None:
        assert result.published == result.delivered == pytest.approx(rate * result.seconds, abs=2)
    faulty = FaultyRooms({(0, 2): Fault.DROP})
    assert faults_of(await result_of(faulty, program, plan, load)) == {"lost": 1}


@needs_compiler
async def test_at_a_rate_a_late_server_is_sent_no_less(program: Path, plan: Path) -> None:
    load = attrs.evolve(LOAD, rate=100, duration_seconds=0.5)
    result = await result_of(FaultyRooms({(LISTENER, 2): Fault.DROP}), program, plan, load)
    assert result.published == pytest.approx(100 * result.seconds, abs=2)
    assert faults_of(result) == {"lost": 1}
    # Half of the messages go to four members, the others to one.
    assert result.delivered == pytest.approx(result.published / 2 * (MEMBERS + 1), abs=MEMBERS + 2)


@needs_compiler
async def test_who_stalls_is_not_waited_for(program: Path, plan: Path) -> None:
    plan.write_text(plan.read_text().replace(f"0 listen /0/{LISTENER}", f"0 stall /0/{LISTENER}"))
    result = await result_of(FaultyRooms(), program, plan)
    assert faults_of(result) == {}
    assert result.delivered > 0


@needs_compiler
async def test_noise_and_the_crowd_are_counted_apart(program: Path, plan: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(client_frame(b'{"type":"ping"}', b"mask"))
    plan.write_text(plan.read_text() + "2 noise /2/8\n3 crowd /3/9\n")
    result = await result_of(FaultyRooms(), program, plan, attrs.evolve(LOAD, noise=noise))
    assert faults_of(result) == {}
    assert result.noise_answered > 0
    assert result.crowd_delivered > 0
    assert sum(count for _, count in result.latency_ns) == result.delivered


@needs_compiler
async def test_joining_is_measured_by_itself(program: Path, plan: Path) -> None:
    result = await result_of(FaultyRooms(), program, plan, attrs.evolve(LOAD, connect_only=True))
    assert faults_of(result) == {}
    assert result.delivered == sum(count for _, count in result.latency_ns) == MEMBERS + 1
    assert result.published == 0
    assert result.seconds < LOAD.duration_seconds


@needs_compiler
async def test_a_refused_handshake_is_told_with_its_status(program: Path, plan: Path) -> None:
    plan.write_text("0 publish /closed/0\n")
    with pytest.raises(BenchError, match="connection 0 was refused, HTTP status 403"):
        await result_of(FaultyRooms(), program, plan)


@needs_compiler
@pytest.mark.parametrize("message_bytes", [64, 60_000])  # a part of a TLS record, and several
async def test_under_tls_all_is_counted_as_in_clear_text(
    tls_program: Path, plan: Path, tmp_path: Path, message_bytes: int
) -> None:
    _, serving = make_certificate(tmp_path)
    load = attrs.evolve(LOAD, message_bytes=message_bytes)
    good = await result_of(FaultyRooms(), tls_program, plan, load, tls=serving)
    assert faults_of(good) == {}
    assert good.published <= good.delivered <= good.published * MEMBERS
    faulty = FaultyRooms({(LISTENER, 2): Fault.DROP, (PUBLISHER, 3): Fault.DUPLICATE})
    result = await result_of(faulty, tls_program, plan, load, tls=serving)
    assert faults_of(result) == {"lost": 1, "duplicated": 1}


@needs_compiler
async def test_under_tls_a_connection_that_the_server_closes_is_told(
    tls_program: Path, plan: Path, tmp_path: Path
) -> None:
    _, serving = make_certificate(tmp_path)
    result = await result_of(FaultyRooms({(LISTENER, 2): Fault.CLOSE}), tls_program, plan, tls=serving)
    assert (result.disconnected, result.close_code) == (1, 4108)
    assert result.lost > 0


@needs_compiler
async def test_a_server_that_speaks_no_tls_is_told(tls_program: Path, plan: Path) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, FaultyRooms().serve, "127.0.0.1", 0, None, handler_nursery=nursery)
        )
        with pytest.raises(BenchError, match="the TLS handshake of connection 0 failed"):
            await trio.to_thread.run_sync(partial(generate, tls_program, plan, server.port, tls=True))
        nursery.cancel_scope.cancel()


@needs_compiler
def test_missing_headers_of_openssl_are_told_and_clear_text_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tmp_path / "openssl" / "ssl.h"
    header.parent.mkdir()
    header.write_text("#error as if it was not there\n")
    monkeypatch.setenv("CPATH", str(tmp_path))
    with pytest.raises(BenchError, match="install libssl-dev"):
        compile_generator(tmp_path, tls=True)
    assert compile_generator(tmp_path).exists()


@needs_compiler
@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "localhost"])
def test_only_loopback_addresses_are_loaded(program: Path, plan: Path, host: str) -> None:
    with pytest.raises(BenchError, match="must be a loopback address"):
        generate(program, plan, 9, host)


@needs_compiler
def test_a_malformed_plan_is_told_with_its_line(program: Path, plan: Path) -> None:
    plan.write_text("0 publish /0/0\nzero listen /0/1\n")
    with pytest.raises(BenchError, match="line 2 of the plan"):
        generate(program, plan, 9)


def test_a_missing_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match="no compiler 'no-such-compiler'"):
        compile_generator(tmp_path)
