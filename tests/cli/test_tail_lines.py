"""The lines of `greenroom tail` on a terminal."""

import click
import pytest

from broker.cli.lines import line_of

PLACE = {"room": "lobby", "offset": 1, "epoch": "e", "time": 1_700_000_000_000}


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"type": "chat", "user_id": "ann", "text": "hello", **PLACE}, "ann hello"),
        ({"type": "chat", "user_id": "ann", "text": "hell", "truncated": True, **PLACE}, "ann hell […]"),
        ({"type": "user_joined", "room": "lobby", "user_id": "ann", "room_size": 3}, "→ ann joined (3)"),
        ({"type": "user_left", "room": "lobby", "user_id": "ann", "room_size": 2}, "← ann left (2)"),
        (
            {"type": "presence_changed", "room": "lobby", "joined": ["a", "b"], "left": [], "room_size": 200},
            "2 joined, 0 left (200)",
        ),
        (
            {"type": "presence_update", "room": "a", "user_id": "ann", "connection": "c", "state": 1},
            'ann shows {"state":1}',
        ),
        (
            {
                "type": "chat",
                "user_id": "ann",
                "text": "1:0",
                "tags": {"kind": "goal", "by": "c\x1bd"},
                **PLACE,
            },
            "ann 1:0 kind=goal by=c\ufffdd",
        ),
        ({"type": "gap", "room": "lobby", "from": 3, "to": 5}, "events 3 to 5 are missing"),
        (
            {"type": "event", "event": "moved", "user_id": "ann", "data": {"x": 1}, **PLACE},
            'ann moved {"x":1}',
        ),
        ({"type": "order_update", "order_id": 5, **PLACE}, 'order_update {"order_id":5}'),
    ],
)
def test_messages_are_lines(message, line):
    # The time of day depends on where the terminal stands.
    assert click.unstyle(line_of(message)).partition(" ")[2] == line


def test_control_characters_of_users_are_not_printed():
    hostile = "\x1b[2Jgone\r\x07"
    line = line_of({"type": "chat", "user_id": "\x1b[1A", "text": hostile, **PLACE})
    for control in ("\x1b[1A", "\x1b[2J", "\r", "\x07"):
        assert control not in line
    assert "\ufffd[2Jgone\ufffd\ufffd" in line
    assert "\ufffd[1A" in line
