"""`greenroom explain`, against a server process, and its text for a terminal."""

import json
import time

import jwt
import msgspec

from broker.cli.explain import _Explanation, _lines
from tests.cli.test_send_and_tail import BROKER, ENVIRONMENT, run, server, started
from tests.support.secrets import SECRET

__all__ = ["BROKER", "ENVIRONMENT", "server"]


def test_it_prints_the_answer_and_its_text(server, tmp_path):
    file = tmp_path / "token"
    file.write_text(jwt.encode({"sub": "ann", "rooms": ["den"]}, SECRET) + "\n")
    with started("tail", "den", "--url", server.url) as tail:
        tail.stdout.readline()
        printed = run("explain", "--user", "cli", "--room", "den", "--url", server.url)
    assert (printed.returncode, printed.stderr) == (0, "")
    explanation = json.loads(printed.stdout)
    [node] = explanation["nodes"]
    assert [each["is_in_room"] for each in node["connections"]] == [True]

    text = list(_lines(msgspec.json.decode(printed.stdout, type=_Explanation), time.time()))
    assert text[0] == "cli in den"
    assert "  join       allowed  no_rule" in text
    assert "  call       refused  no_hook: nothing answers calls in this room" in text
    assert any(line.startswith("node ") and "room 1 members, offset 0" in line for line in text)
    assert any("in the room, 0 bytes queued, last write " in line for line in text)

    printed = run("explain", "--token-file", str(file), "--room", "lobby", "--url", server.url)
    explanation = json.loads(printed.stdout)
    assert explanation["token"]["key"] == "secret"
    assert {each["ground"] for each in explanation["permissions"]} == {"claim_rooms"}
    text = list(_lines(msgspec.json.decode(printed.stdout, type=_Explanation), time.time()))
    assert text[:2] == ["ann in lobby", "token accepted: auth, secret"]

    file.write_text("no token\n")
    refused = run("explain", "--token-file", str(file), "--room", "lobby", "--url", server.url)
    assert refused.returncode == 2
    assert "--token-file: holds no token" in refused.stderr
    assert run("explain", "--room", "lobby", "--url", server.url).returncode == 2
