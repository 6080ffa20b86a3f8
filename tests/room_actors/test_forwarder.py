"""The requests of a room on a node that does not own it, and the members of other nodes on the one that does."""

from collections.abc import Callable, Sequence
from itertools import count

import attrs
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.presence import NodePresence, RemotePresence
from broker.model import Shown
from broker.room_actors.forwarder import ANSWER_SECONDS, Departure, Forwarder, Outgoing
from broker.room_actors.guests import MOST_NODES, Guests

PATIENCE_SECONDS = 5.0


def request(number: int, since: float = 0.0) -> Outgoing:
    return Outgoing(number, Departure(Shown(f"user {number}", f"c{number}")), since)


class Nodes:
    """Two nodes; the present owner does what it gets, if nothing before is missing, and the other one sends it back."""

    def __init__(self) -> None:
        self.forwarder = Forwarder(PATIENCE_SECONDS, count(1), owner="node 0")
        self._guests = {"node 0": Guests(), "node 1": Guests()}
        self.asked = 0
        self.done: list[int] = []
        self._owner = 0
        self._sent: list[tuple[Outgoing, int, str]] = []
        self._unheard: list[int] = []

    def ask(self) -> None:
        self.asked += 1
        self.forwarder.add(request(self.asked))
        self._send()

    def handle(self) -> None:
        if self._sent:
            each, generation, node = self._sent.pop(0)
            guests, place = self._guests[node], ("asking", generation, each.ordinal)
            if node != f"node {self._owner}" or not guests.is_next(*place):
                self.forwarder.give_back([each.number])
            elif self.forwarder.take_answered(each.number) is not None:
                guests.note_next(*place)
                self.done.append(each.number)

    def miss(self) -> None:
        """The node does not hear a request, and the one that has sent it hears of that later."""
        if self._sent:
            self._unheard.append(self._sent.pop(0)[0].number)

    def hear_what_was_missed(self) -> None:
        self.forwarder.give_back(self._unheard)
        self._unheard.clear()

    def forget(self) -> None:
        """The owner has passivated, and owns the room again."""
        self._guests[f"node {self._owner}"].forget()

    def move(self) -> None:
        self._owner = 1 - self._owner

    def look(self) -> None:
        if self.forwarder.owner is None:
            self.forwarder.owner = f"node {self._owner}"
            self._send()

    def _send(self) -> None:
        owner, generation = self.forwarder.owner, self.forwarder.generation
        for each in self.forwarder.take_sendable(0.0):
            assert owner is not None
            # As it was packed.
            self._sent.append((attrs.evolve(each), generation, owner))


RARE = [Nodes.hear_what_was_missed, Nodes.forget, Nodes.move]
STEPS = [*[Nodes.ask, Nodes.handle, Nodes.miss, Nodes.look] * 3, *RARE]


@given(st.lists(st.sampled_from(STEPS), min_size=15, max_size=60))
def test_requests_are_done_once_in_their_order_wherever_the_owner_goes(
    steps: Sequence[Callable[[Nodes], None]],
) -> None:
    nodes = Nodes()
    for step in steps:
        step(nodes)
    while nodes.forwarder.is_busy:
        nodes.handle()
        nodes.hear_what_was_missed()
        nodes.look()
    assert nodes.done == list(range(1, nodes.asked + 1))


def test_requests_do_not_wait_for_ever() -> None:
    forwarder = Forwarder(PATIENCE_SECONDS, count(1))
    forwarder.add(request(1))
    assert forwarder.take_expired(PATIENCE_SECONDS - 0.1) == []
    assert [each.number for each in forwarder.take_expired(PATIENCE_SECONDS)] == [1]
    forwarder.owner = "node"
    forwarder.add(request(2))
    forwarder.take_sendable(10.0)
    assert forwarder.take_expired(10.0 + ANSWER_SECONDS - 0.1) == []
    assert [each.number for each in forwarder.take_expired(10.0 + ANSWER_SECONDS)] == [2]
    assert not forwarder.is_busy


def test_an_owner_remembers_the_nodes_of_the_latest_requests() -> None:
    guests = Guests()
    for number in range(MOST_NODES + 1):
        guests.note_next(f"node {number}", generation=7, ordinal=1)
    assert not guests.is_next("node 0", 7, 2)  # comes back, and is the first of a new generation then
    assert guests.is_next("node 0", 8, 1)
    assert guests.is_next("node 1", 7, 2)
    assert not guests.is_next("node 1", 6, 1)
    # Nodes of an older version do not number their requests.
    assert guests.is_next("node 1", 7, 0)


def presence(*connections: str) -> RemotePresence:
    members = {name: Shown(f"user of {name}", name) for name in connections}
    return RemotePresence("store", 1, {"node": NodePresence(1, members)})


def test_a_member_has_left_that_two_checks_do_not_find() -> None:
    guests = Guests()
    guests.learn(presence("a", "b"))
    guests.add("other", Shown("new", "c"))
    assert guests.take_lost(presence("a", "b")) == []  # its node has not told of it yet
    assert guests.take_lost(presence("a", "c")) == []
    assert guests.take_lost(presence("b", "c")) == []
    (lost,) = guests.take_lost(presence("b", "c"))
    assert lost.connection == "a"
    assert sorted(member.connection for member in guests.members()) == ["b", "c"]
    guests.forget()
    assert not guests


def test_a_member_is_there_that_two_checks_find() -> None:
    guests = Guests()
    assert guests.learn_found(presence("a", "b")) == []
    assert not guests  # its node may not have told yet that it has left
    assert guests.must_check_again
    assert guests.learn_found(presence("a")) == []
    assert [member.connection for member in guests.members()] == ["a"]


def test_a_member_that_was_lost_is_told_of_when_it_is_back() -> None:
    guests = Guests()
    guests.learn(presence("a", "b"))
    guests.take_lost(presence())
    assert [shown.connection for shown in guests.take_lost(presence())] == ["a", "b"]
    assert not guests.must_check_again
    for _ in range(2):  # until it is added
        (returned,) = guests.learn_found(presence("a"))
        assert returned == ("node", Shown("user of a", "a"))
    assert not guests
    guests.add(*returned)
    assert guests.learn_found(presence("a")) == []
    assert guests.is_gone("b")
    guests.note_left("b")
    assert not guests.is_gone("b")
