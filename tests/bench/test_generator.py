"""The load generator counts exactly what a server does wrong, and nothing where it does nothing wrong."""

import json
import shutil
from collections.abc import Mapping
from enum import Enum, auto
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from outcome import capture
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from bench.errors import BenchError
from bench.load.generator import Load, Result, compile_generator, generating

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
LOAD = Load(
    in_flight=8,
    warm_up_seconds=0.0,
    duration_seconds=0.3,
    connecting=1,
    connect_seconds=10.0,
    drain_seconds=0.3,
)
MEMBERS, PUBLISHER, LISTENER = 4, 0, 2


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
                text = json.loads(await ws.get_message())["text"]
                for member in list(members):
                    await self.deliver(room, member, text)
        except ConnectionClosed:
            members.pop(int(number), None)

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


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Four members in room 0 of whom the first publishes, and one in room 1 who speaks to himself."""
    lines = [f"0 {'publish' if number == PUBLISHER else 'listen'} /0/{number}\n" for number in range(MEMBERS)]
    path = tmp_path / "plan"
    path.write_text("".join([*lines, f"1 publish /1/{MEMBERS}\n"]))
    return path


def generate(program: Path, plan: Path, port: int, host: str = "127.0.0.1") -> Result:
    with generating(program, LOAD, host=host, port=port, plan=plan, core=None) as events:
        *_, last = events
    assert isinstance(last, Result)
    return last


async def result_of(rooms: FaultyRooms, program: Path, plan: Path) -> Result:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, rooms.serve, "127.0.0.1", 0, ssl_context=None, handler_nursery=nursery)
        )
        ended = await trio.to_thread.run_sync(capture, generate, program, plan, server.port)
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
@pytest.mark.parametrize("member", [PUBLISHER, LISTENER])
@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({20: Fault.DROP}, {"lost": 1}),
        ({20: Fault.DROP, 21: Fault.DROP, 40: Fault.DROP}, {"lost": 3}),
        ({20: Fault.DUPLICATE, 21: Fault.DUPLICATE}, {"duplicated": 2}),
        ({20: Fault.SWAP, 30: Fault.SWAP, 40: Fault.SWAP}, {"out_of_order": 3}),
        (
            {20: Fault.DROP, 21: Fault.SWAP, 23: Fault.DUPLICATE},
            {"lost": 1, "out_of_order": 1, "duplicated": 1},
        ),
        ({20: Fault.ALTER, 30: Fault.CUT}, {"malformed": 2, "lost": 2}),
        ({20: Fault.LEAK, 21: Fault.LEAK}, {"strayed": 2}),
    ],
)
async def test_faults_are_counted_exactly(
    program: Path, plan: Path, member: int, faults: dict[int, Fault], expected: dict[str, int]
) -> None:
    rooms = FaultyRooms({(member, sequence): fault for sequence, fault in faults.items()})
    assert faults_of(await result_of(rooms, program, plan)) == expected


@needs_compiler
async def test_what_a_closed_connection_misses_is_lost(program: Path, plan: Path) -> None:
    result = await result_of(FaultyRooms({(LISTENER, 20): Fault.CLOSE}), program, plan)
    faults = faults_of(result)
    assert faults.pop("lost") > 0
    assert faults == {"disconnected": 1}
    assert result.close_code == 4108


@needs_compiler
async def test_a_refused_handshake_is_told_with_its_status(program: Path, plan: Path) -> None:
    plan.write_text("0 publish /closed/0\n")
    with pytest.raises(BenchError, match="connection 0 was refused, HTTP status 403"):
        await result_of(FaultyRooms(), program, plan)


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
