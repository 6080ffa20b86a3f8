"""Each member of a large room is sent each frame once and in order, however many are added meanwhile."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.rooms.broadcast import BYTES_PER_PART, MAX_BYTES, MEMBERS_PER_PART, Broadcast, Frames
from broker.rooms.choice import Audience
from broker.rooms.member import Member
from tests.support.members import NoticesCodec, Person, framed

SIZES = st.lists(st.integers(1, 3 * MEMBERS_PER_PART), min_size=1, max_size=3)


def people_in(sizes: Sequence[int]) -> list[Audience]:
    audiences = []
    for size in sizes:
        codec = NoticesCodec()
        audiences.append(Audience(codec, [Person("ann", codec) for _ in range(size)]))
    return audiences


def numbered(number: int, audiences: int, notices: int = 1) -> Frames:
    """Return frames that say which they are and whose."""
    return Frames(
        [framed(b"<%d %d>" % (audience, number), *[number] * notices) for audience in range(audiences)]
    )


@given(SIZES, st.lists(st.booleans(), max_size=80))
def test_each_member_is_sent_each_frame_once_and_in_order(sizes: list[int], adds: list[bool]) -> None:
    audiences = people_in(sizes)
    broadcast = Broadcast(audiences)
    sent: dict[Member, bytes] = {person: b"" for audience in audiences for person in audience.members}
    notices: dict[Member, list[tuple[int, tuple[int, int] | None]]] = {person: [] for person in sent}
    reported: list[int] = []
    added = 0

    def send() -> bool:
        part = broadcast.take()
        assert 0 < len(part.members) <= MEMBERS_PER_PART
        for member in part.members:
            sent[member] += part.frame
            notices[member].append((len(part.frame.notices), part.frame.offsets))
        is_sent = broadcast.settle()
        # What is reported as sent is what all members have, and no more.
        assert len(reported) == min(frame.count(b"<") for frame in sent.values())
        return is_sent

    def expected(audience: int) -> bytes:
        return b"".join(numbered(number, len(sizes)).by_audience[audience] for number in range(added))

    is_sent = True
    for add in adds:
        if add or is_sent:
            broadcast.add(numbered(added, len(sizes)))
            broadcast.call_when_sent(lambda number=added: reported.append(number))
            added += 1
            is_sent = False
        else:
            is_sent = send()
    while not is_sent:
        is_sent = send()
    for audience, (_, people, _) in enumerate(audiences):
        for person in people:
            assert sent[person] == expected(audience)
            # A refused part is counted, and told of, by its notices.
            assert sum(count for count, _ in notices[person]) == added
            spans = [span for _, span in notices[person] if span is not None]
            assert [at for first, last in spans for at in range(first, last + 1)] == list(range(added))
    assert reported == list(range(added))


def test_missing_frames_of_a_member_are_joined_in_one_write() -> None:
    [(_, people, _)] = audiences = people_in([10 * MEMBERS_PER_PART])
    broadcast = Broadcast(audiences)
    writes = dict.fromkeys(people, 0)
    for number in range(40):
        broadcast.add(numbered(number, 1))
        for _ in range(3):
            for person in broadcast.take().members:
                writes[person] += 1
            broadcast.settle()
    assert sum(writes.values()) < 40 * len(people) / 2
    # The first are sent each of them soon, so that those of them who wait for that go on.
    assert writes[people[0]] > 20


def test_nobody_waits_for_ever_while_more_is_added() -> None:
    audiences = people_in([10 * MEMBERS_PER_PART, MEMBERS_PER_PART])
    broadcast = Broadcast(audiences)
    last_person = audiences[1].members[-1]
    waits = 0
    for number in range(1000):
        broadcast.add(numbered(number, 2))
        waits = 0 if last_person in broadcast.take().members else waits + 1
        assert waits < 100
        assert not broadcast.settle()


def test_a_broadcast_takes_a_bounded_number_of_bytes() -> None:
    broadcast = Broadcast(people_in([2 * MEMBERS_PER_PART]))
    count = 0
    while not broadcast.is_full:
        broadcast.add(Frames([framed(b"x" * 1000)]))
        count += 1
    assert count == -(-MAX_BYTES // 1000)
    is_sent = False
    while not is_sent:
        part = broadcast.take()
        assert len(part.members) * len(part.frame) <= BYTES_PER_PART or len(part.members) == 1
        is_sent = broadcast.settle()
    assert not broadcast.is_full
