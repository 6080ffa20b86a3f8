"""The roster of a room, compared with a plain list."""

import time
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from broker.rooms.presence.roster import Roster

if TYPE_CHECKING:
    from tests.rooms.conftest import NewPerson
    from tests.support.members import Person

USERS = ("ann", "bob", "cat")
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60)


def people(new_person: "NewPerson") -> "list[Person]":
    """Three users with four connections each, two of them on one codec; the last of each only listens."""
    codecs = [new_person("").outbox.codec for _ in range(2)]
    return [new_person(user, codecs[place % 2], is_visible=place < 3) for user in USERS for place in range(4)]


@given(steps)
def test_a_roster_agrees_with_a_list_of_members(
    new_person: "NewPerson", steps: list[tuple[bool, int]]
) -> None:
    everyone = people(new_person)
    roster, present = Roster(), list["Person"]()
    for comes, index in steps:
        person = everyone[index]
        assert (
            roster.add(person) == (person not in present)
            if comes
            else roster.discard(person) == (person in present)
        )
        if comes and person not in present:
            present.append(person)
        elif not comes and person in present:
            present.remove(person)
        users = Counter(each.user_id for each in present if each.is_visible)
        assert roster.size == users.total()
        assert len(roster) == len(present)
        assert roster.is_empty == (not present)
        assert dict(roster.users()) == users
        assert set(roster) == set(present)
        assert [each for each in everyone if each in roster] == [each for each in everyone if each in present]
        for user in USERS:
            mine = [each for each in present if each.user_id == user and each.is_visible]
            assert sorted(map(id, roster.members_of(user))) == sorted(map(id, mine))


@given(steps)
def test_each_codec_has_its_own_audience_in_the_order_in_which_they_came(
    new_person: "NewPerson", steps: list[tuple[bool, int]]
) -> None:
    everyone = people(new_person)
    roster, present = Roster(), list["Person"]()
    for comes, index in steps:
        person = everyone[index]
        if comes and roster.add(person):
            present.append(person)
        elif not comes and roster.discard(person):
            present.remove(person)
        audiences = roster.audiences()
        assert len({id(codec) for codec, *_ in audiences}) == len(audiences)
        for codec, members, _ in audiences:
            assert list(members) == [each for each in present if each.outbox.codec is codec]
        assert sum(len(members) for _, members, _ in audiences) == len(present)


def test_an_audience_is_a_snapshot(new_person: "NewPerson") -> None:
    ann, bob = new_person("ann"), new_person("bob")
    roster = Roster()
    roster.add(ann)
    members, [(_, audience, _)] = iter(roster), roster.audiences()
    roster.add(bob)
    roster.discard(ann)
    assert list(members) == [ann]
    assert list(audience) == [ann]
    assert [list(audience) for _, audience, _ in roster.audiences()] == [[bob]]


def test_coming_and_going_costs_the_same_in_a_large_room(new_person: "NewPerson") -> None:
    def seconds(size: int) -> float:
        codec = new_person("").outbox.codec
        everyone = [new_person(f"user {number}", codec) for number in range(size)]
        roster = Roster()
        began = time.process_time()
        for person in everyone:
            roster.add(person)
        for person in everyone:
            roster.discard(person)
        return time.process_time() - began

    # Were each step to cost the room's size, ten times as many would take a hundred times as long.
    assert min(seconds(10_000) for _ in range(5)) < 40 * min(seconds(1000) for _ in range(5))
