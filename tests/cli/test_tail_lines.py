"""What `greenroom tail` prints on a terminal."""

import click
import pytest

from broker.cli.tail import _Tail
from broker.model import Position

EPOCH = {"epoch": "e", "time": 1_700_000_000_000}


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    # The time of day depends on where the terminal stands.
    return [click.unstyle(line).partition(" ")[2] for line in capsys.readouterr().out.splitlines()]


def test_messages_are_lines(capsys):
    tail = _Tail("lobby", as_lines=True)
    tail.take({"type": "chat", "room": "lobby", "user_id": "ann", "text": "hello", "offset": 1, **EPOCH})
    tail.take({"type": "user_left", "room": "lobby", "user_id": "ann", "room_size": 2})
    tail.take({"type": "order_update", "room": "lobby", "order_id": 5, "offset": 2, **EPOCH})
    assert lines_of(capsys) == ["ann hello", "ann left (2)", '{"type":"order_update","order_id":5}']
    assert tail.position == Position("e", 2)


def test_what_others_wrote_cannot_steer_the_terminal(capsys):
    tail = _Tail("lobby", as_lines=True)
    hostile = "\x1b[2Jgone\r\x07"
    tail.take({"type": "chat", "room": "lobby", "user_id": "\x1b[1m", "text": hostile, "offset": 1, **EPOCH})
    out = capsys.readouterr().out
    for control in ("\x1b[1m", "\x1b[2J", "\r", "\x07"):
        assert control not in out
    assert "\ufffd[2Jgone\ufffd\ufffd" in out
    assert "\ufffd[1m" in out


def test_what_was_missed_is_printed_and_what_is_lost_is_said(capsys):
    tail = _Tail("lobby", as_lines=True)
    missed = {"type": "chat", "room": "lobby", "user_id": "ann", "text": "one", "offset": 1, **EPOCH}
    joined = {"type": "joined", "room": "lobby", "offset": 1, "epoch": "e"}
    tail.take({**joined, "recovered": True, "messages": [missed]})
    tail.take({**joined, "recovered": True, "messages": []})
    captured = capsys.readouterr()
    assert captured.out.count("one") == 1
    assert captured.err == ""
    tail.take(
        {"type": "joined", "room": "lobby", "offset": 0, "epoch": "f", "recovered": False, "messages": []}
    )
    assert "no longer held" in capsys.readouterr().err
    assert tail.position == Position("f", 0)
