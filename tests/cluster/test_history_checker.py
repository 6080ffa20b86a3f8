"""The checker of histories finds what it is there to find."""

from collections.abc import Callable

import pytest

from tests.support.history_checker import History, Place


def good() -> History:
    history = History()
    for number, text in enumerate(("a", "b", "c"), 1):
        history.begin(text)
        history.acknowledge(text, Place("e", number))
    history.begin("d")
    history.stored = [(Place("e", number), text) for number, text in enumerate("abcd", 1)]
    for place, text in history.stored[1:]:
        history.hear("ann", place, text)
    return history


def test_a_good_history_has_no_faults_whether_what_was_not_acknowledged_is_there_or_not() -> None:
    assert list(good().faults()) == []
    history = good()
    history.stored.pop()
    history.heard["ann"].pop()
    assert list(history.faults()) == []


def lose(history: History) -> None:
    history.stored = [(Place("e", 1), "a"), (Place("e", 2), "b"), (Place("e", 3), "d")]
    history.heard.clear()


def repeat(history: History) -> None:
    history.stored.append((Place("e", 5), "b"))
    history.heard.clear()


def turn(history: History) -> None:
    history.stored[0], history.stored[1] = (Place("e", 1), "b"), (Place("e", 2), "a")
    history.publishes["a"].place, history.publishes["b"].place = Place("e", 2), Place("e", 1)
    history.heard.clear()


FAULTS: dict[str, Callable[[History], object]] = {
    "c was acknowledged and is lost": lose,
    "b is stored 2 times": repeat,
    "b came before what was acknowledged before it began": turn,
    "x was never published": lambda history: history.stored.append((Place("e", 5), "x")),
    "the history has holes": lambda history: history.stored.pop(2),
    "the history has several epochs": lambda history: history.stored.append((Place("f", 5), "d")),
    "a was acknowledged at another place": lambda history: history.acknowledge("a", Place("e", 9)),
    "ann heard c again, or out of order": lambda history: history.heard["ann"].insert(
        1, (Place("e", 3), "c")
    ),
    "ann missed what is before c": lambda history: (
        history.heard["ann"].pop(0) and history.hear("ann", Place("e", 6), "c")
    ),
    "ann missed the end": lambda history: history.heard["ann"].pop(),
    "bob heard a at a place where it is not stored": lambda history: history.hear("bob", Place("e", 4), "a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    history = good()
    FAULTS[fault](history)
    assert fault in list(history.faults())
