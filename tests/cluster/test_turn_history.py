"""The checker of turns finds what it is there to find."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from tests.support.history_checker import Place
from tests.support.turn_history import NOTHING_DONE, Answer, Turn, TurnHistory


def good() -> TurnHistory:
    """Return the history of a room that was opened on a, asked twice, moved to b, and had a timer there."""
    history = TurnHistory()
    for label, answer in (
        ("x", Answer(2, 0, 5)),
        ("y", Answer(3)),
        ("z", Answer(5, 5, 6)),
        ("low", NOTHING_DONE),
    ):
        history.begin(label)
        history.answer(label, answer)
    history.begin("lost on the way")
    store(
        history,
        [
            Turn(1, "open", "", 0, 0, "a"),
            Turn(2, "call", "x", 0, 5, "a", "bell"),
            Turn(3, "message", "y", 5, 5, "a"),
            Turn(4, "open", "", 5, 5, "b"),
            Turn(5, "call", "z", 5, 6, "b"),
            Turn(6, "timer", "bell", 6, 6, "b"),
        ],
    )
    for place, turn in history.stored[2:]:
        history.hear("ann", place, turn)
    return history


def store(history: TurnHistory, turns: Sequence[Turn]) -> None:
    history.stored = [(Place("e", offset), turn) for offset, turn in enumerate(turns, 1)]


def test_a_good_history_has_no_faults_whether_what_was_not_answered_is_there_or_not() -> None:
    assert list(good().faults()) == []
    assert good().pending_timers() == set()
    history = good()
    history.stored.append((Place("e", 7), Turn(7, "call", "lost on the way", 6, 7, "b")))
    history.hear("ann", *history.stored[-1])
    assert list(history.faults()) == []


def change(edit: Callable[[list[Turn]], object]) -> Callable[[TurnHistory], None]:
    """Return what edits the stored turns, which nobody has heard."""

    def change_history(history: TurnHistory) -> None:
        turns = [turn for _, turn in history.stored]
        edit(turns)
        store(history, turns)
        history.heard.clear()

    return change_history


def with_fields(index: int, **fields: object) -> Callable[[list[Turn]], None]:
    def edit(turns: list[Turn]) -> None:
        turns[index] = msgspec.structs.replace(turns[index], **fields)

    return edit


def exchange(turns: list[Turn]) -> None:
    turns[1], turns[2] = turns[2], turns[1]


def fork(turns: list[Turn]) -> None:
    """Let b open the room at turn 3 while a goes on."""
    turns.insert(2, Turn(3, "open", "", 5, 5, "b"))


def renumber(turns: list[Turn]) -> None:
    """Let the room do what was asked last before what was answered before that."""
    turns[1], turns[4] = (
        msgspec.structs.replace(turns[1], label="z"),
        msgspec.structs.replace(turns[4], label="x"),
    )


FAULTS: dict[str, Callable[[TurnHistory], object]] = {
    "x was answered and is lost": change(lambda turns: turns.pop(1)),
    "turn 3 came after turn 1": change(lambda turns: turns.pop(1)),
    "turn 3 began with 5, and the turn before had left 0": change(lambda turns: turns.pop(1)),
    "z was done 2 times": change(lambda turns: turns.append(Turn(7, "call", "z", 6, 7, "b"))),
    "turn 5 came after turn 6": change(lambda turns: turns.append(turns[4])),
    "turn 2 came after turn 3": change(exchange),
    "turn 3 came after turn 3": change(fork),
    "turn 3 was run by a, and the room was open at b": change(fork),
    "turn 5 was run by a, and the room was open at b": change(with_fields(4, owner="a")),
    "a opened the room again at turn 4": change(with_fields(3, owner="a")),
    "z came before a turn that was answered before it began": change(renumber),
    "strange was never asked": change(lambda turns: turns.append(Turn(7, "call", "strange", 6, 7, "b"))),
    "x was answered as turn 2, and was turn 3": change(with_fields(1, number=3)),
    "x was answered with other values than those of turn 2": change(with_fields(1, after=4)),
    "low was answered as not done, and was turn 7": change(
        lambda turns: turns.append(Turn(7, "call", "low", 6, 7, "b"))
    ),
    "timer bell is lost": change(lambda turns: turns.pop(5)),
    "timer bell fired at turn 7 and was not set": change(
        lambda turns: turns.append(Turn(7, "timer", "bell", 6, 6, "b"))
    ),
    "the history has holes": lambda history: history.stored.pop(2),
    "the history has several epochs": lambda history: history.stored.append(
        (Place("f", 7), Turn(7, "join", "bob", 6, 6, "b"))
    ),
    "ann missed the end": lambda history: history.heard["ann"].pop(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    history = good()
    FAULTS[fault](history)
    assert fault in list(history.faults())
