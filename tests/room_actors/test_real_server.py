"""Rooms with code behind the command line, on SQLite, through `kill -9`."""

import json
import re
import time
from pathlib import Path

import httpx2
import msgspec
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from broker.auth.mint import mint_token
from broker.cli import main
from broker.cli.rooms import _Code, _code_lines
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import running
from tests.support.secrets import API_KEY, SECRET

GAME = """
import msgspec
from broker.room_actors import Member, Refusal, RoomActor, Timer, call

class Score(msgspec.Struct):
    points: int = 0
    rung: list[str] = []

class Game(RoomActor[Score], pattern="game.*"):
    async def on_join(self, member: Member) -> None:
        if member.user_id == "eve":
            raise Refusal("not you")

    @call
    async def hit(self, sender: Member | None, points: int) -> int:
        self.state.points += points
        self.say({"type": "hit", "points": self.state.points})
        return self.state.points

    @call
    async def ring(self, sender: Member | None, seconds: float) -> None:
        self.set_timer("bell", seconds)

    @call
    async def fail(self, sender: Member | None) -> None:
        raise RuntimeError("a fault in the application")

    async def on_timer(self, timer: Timer) -> None:
        self.state.rung.append(timer.name)
        self.say({"type": "rung", "name": timer.name, "late": timer.late_seconds > 1})
"""

ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__PORT": "0",
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.1",
}
COMMAND = "exec greenroom serve --rooms game --engine sqlite:///rooms.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "game.py").write_text(GAME)
    return tmp_path


def ask(url: str, method: str, body: object = None, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{url}/api/rooms/game.1/calls/{method}",
        headers={"Authorization": f"Bearer {API_KEY}", **headers},
        json=body,
        timeout=PATIENCE_SECONDS,
    )


def test_state_timers_and_answers_outlive_a_killed_server(folder: Path) -> None:
    token = mint_token(secret=SECRET, algorithm="HS256", user_id="ann", ttl_seconds=3600, now=time.time())
    key = {"Idempotency-Key": "once"}
    with running(COMMAND, folder, **ENVIRON) as (url, process):
        assert ask(url, "hit", {"data": 5}, **key).json() == {"data": 5}
        assert ask(url, "hit", {"data": 5}, **key).json() == {"data": 5}
        assert ask(url, "hit", {"data": "five"}).status_code == 400
        assert ask(url, "unknown").status_code == 400
        assert ask(url, "fail").status_code == 500
        assert ask(url, "ring", {"data": 1}).status_code == 200
        process.kill()
        process.wait(PATIENCE_SECONDS)
    with running(COMMAND, folder, **ENVIRON) as (url, _):
        assert ask(url, "hit", {"data": 5}, **key).json() == {"data": 5}
        with connect(
            f"ws{url[4:]}/ws/game.1?token={token}&last=100", open_timeout=PATIENCE_SECONDS
        ) as socket:
            heard = json.loads(socket.recv(PATIENCE_SECONDS))["messages"]
            while not any(each["type"] == "rung" for each in heard):
                heard.append(json.loads(socket.recv(PATIENCE_SECONDS)))
            socket.send(json.dumps({"type": "call", "method": "hit", "data": 2, "id": 1}))
            while heard[-1]["type"] != "result":
                heard.append(json.loads(socket.recv(PATIENCE_SECONDS)))
        assert heard[-1] == {"type": "result", "id": 1, "data": 7}
        assert [each["points"] for each in heard if each["type"] == "hit"] == [5, 7]
        assert len([each for each in heard if each["type"] == "rung"]) == 1
        metrics = httpx2.get(
            f"{url}/metrics", headers={"Authorization": f"Bearer {API_KEY}"}, timeout=PATIENCE_SECONDS
        ).text
        turns = re.findall(
            r'^greenroom_turns_total\{kind="(\w+)".*outcome="(\w+)".*\} ([1-9]\S*)$', metrics, re.MULTILINE
        )
        assert {each for each in turns if each[0] != "leave"} == {
            ("join", "done", "1.0"),
            ("call", "done", "1.0"),
            ("timer", "done", "1.0"),
        }
        size = len('{"points":7,"rung":["bell"]}')
        for name in ("greenroom_room_state_bytes", "greenroom_room_state_largest_bytes"):
            [value] = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE)
            assert float(value) == size
        shown = CliRunner().invoke(main, ["rooms", "show", "game.1", "--url", url], env=ENVIRON)
        assert shown.exit_code == 0, shown.output
        room, code = json.loads(shown.stdout)["room"], json.loads(shown.stdout)["code"]
        assert (room["has_code"], code["class_name"], code["is_running"]) == (True, "game.Game", True)
        assert code["state"]["value"] == {"points": 7, "rung": ["bell"]}
        text = "\n".join(_code_lines(msgspec.json.decode(json.dumps(code), type=_Code), time.time()))
        assert f"class        game.Game, state version 1, runs on node {code['node']}" in text
        assert '\n      "points": 7,\n' in text
        assert "\n  call turns   1 done; " in text
        shown = CliRunner().invoke(main, ["rooms", "show", "lobby", "--url", url, "--json"], env=ENVIRON)
        assert json.loads(shown.stdout)["code"] is None
        looked = httpx2.get(
            f"{url}/api/rooms/lobby/code",
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=PATIENCE_SECONDS,
        )
        assert looked.status_code == 404
        posted = httpx2.post(
            f"{url}/api/rooms/lobby/calls/hit",
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=PATIENCE_SECONDS,
        )
        assert posted.status_code == 404
