"""The requests of a room on a node that does not own it, and the members of other nodes on the one that does."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.presence import NodePresence, RemotePresence
from broker.model import Shown
from broker.room_actors.forwarder import ANSWER_SECONDS, Departure, Forwarder, Outgoing
from broker.room_actors.guests import Guests

PATIENCE_SECONDS = 5.0


def request(number: int, since: float = 0.0) -> Outgoing:
    return Outgoing(number, Departure(Shown(f"user {number}", f"c{number}")), since)


class Nodes:
    """Two nodes; the present owner does what it gets, in order, and the other one sends it back."""

    def __init__(self) -> None:
        self.forwarder = Forwarder(PATIENCE_SECONDS, 1, owner="node 0")
        self._guests = {"node 0": Guests(), "node 1": Guests()}
        self.asked = 0
        self.done: list[int] = []
        self._owner = 0
        self._sent: list[tuple[int, int, str]] = []

    def ask(self) -> None:
        self.asked += 1
        self.forwarder.add(request(self.asked))
        self._send()

    def handle(self) -> None:
        if self._sent:
            number, generation, node = self._sent.pop(0)
            guests = self._guests[node]
            if node != f"node {self._owner}" or guests.must_send_back("asking", generation):
                guests.note_sent_back("asking", generation)
                self.forwarder.give_back([number])
            elif self.forwarder.take_answered(number) is not None:
                self.done.append(number)

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
            self._sent.append((each.number, generation, owner))


@given(st.lists(st.sampled_from([Nodes.ask, Nodes.handle, Nodes.move, Nodes.look]), max_size=60))
def test_requests_are_done_once_in_their_order_wherever_the_owner_goes(
    steps: Sequence[Callable[[Nodes], None]],
) -> None:
    nodes = Nodes()
    for step in steps:
        step(nodes)
    while nodes.forwarder.is_busy:
        nodes.handle()
        nodes.look()
    assert nodes.done == list(range(1, nodes.asked + 1))


def test_requests_do_not_wait_for_ever() -> None:
    forwarder = Forwarder(PATIENCE_SECONDS, 1)
    forwarder.add(request(1))
    assert forwarder.take_expired(PATIENCE_SECONDS - 0.1) == []
    assert [each.number for each in forwarder.take_expired(PATIENCE_SECONDS)] == [1]
    forwarder.owner = "node"
    forwarder.add(request(2))
    forwarder.take_sendable(10.0)
    assert forwarder.take_expired(10.0 + ANSWER_SECONDS - 0.1) == []
    assert [each.number for each in forwarder.take_expired(10.0 + ANSWER_SECONDS)] == [2]
    assert not forwarder.is_busy


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
