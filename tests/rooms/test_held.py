"""What is held back of a room: the newest event of each key in order, and a gap for each offset that is lost."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.model import Event, EventHeader
from broker.notices import Gap, Notice, RoomEvent, UserJoined, Withheld
from broker.rooms.frame import Source, room_frame
from broker.rooms.held import NOTICE_BYTES, HeldNotices

HEADERS = [
    EventHeader("event", "cursor", "ann"),
    EventHeader("event", "cursor", "bob"),
    EventHeader("event", "cursor", "ann", tags=(("shape", "1"), ("board", "2"))),
    EventHeader("event", "cursor", "ann", tags=(("board", "2"), ("shape", "1"))),
    EventHeader("event", "scroll", "ann"),
    EventHeader("price", tags=(("symbol", "A"),)),
    EventHeader("price", tags=(("symbol", "B"),)),
    EventHeader("chat", None, "ann"),
]

KINDS = st.one_of(
    st.tuples(st.just("event"), st.sampled_from(HEADERS)),
    st.tuples(st.just("ephemeral"), st.sampled_from(HEADERS)),
    st.tuples(st.sampled_from(["user_joined", "withheld", "gap", "epoch"]), st.none()),
)


def notices_of(kinds: Sequence[tuple[str, EventHeader | None]]) -> list[Notice]:
    """Return them as a room would send them: each epoch counts its offsets from 1."""
    epoch, offset, notices = 1, 0, list[Notice]()
    for kind, header in kinds:
        match kind:
            case "epoch":
                epoch, offset = epoch + 1, 0
                continue
            case "user_joined":
                notices.append(UserJoined("den", "cat", 3))
                continue
            case "withheld":
                notices.append(Withheld("den", f"e{epoch}", offset + 1, offset + 2))
                offset += 2
                continue
            case "gap" if offset:
                notices.append(Gap("den", offset + 1, offset + 3))
                offset += 3
                continue
        assert kind in {"event", "ephemeral", "gap"}
        is_stored = kind != "ephemeral"
        offset += is_stored
        event = Event(b"{}", len(notices), offset if is_stored else None, header or HEADERS[0])
        notices.append(RoomEvent("den", f"e{epoch}", event))
    return notices


def key_of(notice: Notice) -> object:
    if not isinstance(notice, RoomEvent):
        return id(notice)
    header = notice.event.header
    return header.type, header.name, header.sender, frozenset(header.tags)


def places(notices: Sequence[Notice]) -> list[int]:
    """Return the offsets of which these tell."""
    return [
        offset
        for notice in notices
        for offset in (
            range(notice.first, notice.last + 1)
            if isinstance(notice, Gap)
            else range(notice.first, notice.offset + 1)
            if isinstance(notice, Withheld)
            else [notice.event.offset]
            if isinstance(notice, RoomEvent) and notice.event.offset is not None
            else []
        )
    ]


@given(st.lists(KINDS, max_size=30), st.integers(1, 4))
def test_the_newest_of_each_key_is_kept_in_order_and_each_offset_is_told_once(
    kinds: list[tuple[str, EventHeader | None]], frame_size: int
) -> None:
    notices = notices_of(kinds)
    newest = {key_of(notice): notice for notice in notices if not isinstance(notice, Gap | Withheld)}
    held = HeldNotices()
    lost = sum(
        held.add(
            room_frame(b"", Source("den", "latest"), notices[at : at + frame_size]),
            keeps_latest=True,
            space_bytes=1 << 20,
        )
        for at in range(0, len(notices), frame_size)
    )
    assert held.notices == len(newest)
    released = [notice for _, of_room in held.release() for notice in of_room]
    assert [n for n in released if not isinstance(n, Gap)] == [n for n in notices if n in newest.values()]
    assert places(released) == places(notices)
    assert lost == len(notices) - len(newest)
    assert not held
    assert held.size_bytes == 0


@given(st.lists(KINDS, max_size=30), st.integers(0, 6), st.booleans())
def test_past_the_limit_the_oldest_are_lost(
    kinds: list[tuple[str, EventHeader | None]], most: int, keeps_latest: bool
) -> None:
    notices = notices_of(kinds)
    held, lost = HeldNotices(), 0
    limit = most * (NOTICE_BYTES + 2)
    for notice in notices:
        frame = room_frame(b"", Source("den", "latest"), [notice])
        lost += held.add(frame, keeps_latest=keeps_latest, space_bytes=limit)
        assert held.size_bytes <= limit
    released = [notice for _, of_room in held.release("den") for notice in of_room]
    kept = [notice for notice in released if not isinstance(notice, Gap)]
    assert len(kept) == len(notices) - lost
    if not keeps_latest:
        assert kept == []
    elif most:
        # The newest of all is there, whatever it is.
        assert kept[-1:] == [n for n in notices if not isinstance(n, Gap | Withheld)][-1:]
    assert places(released) == places(notices)


def test_rooms_are_held_back_each_for_itself() -> None:
    held = HeldNotices()
    for room, offset in (("a", 3), ("b", 7), ("a", 4)):
        event = RoomEvent(room, "e", Event(b"{}", 0, offset, HEADERS[0]))
        held.add(room_frame(b"", Source(room), [event]), keeps_latest=True, space_bytes=1 << 20)
    [(source, of_a)] = held.release("a")
    assert source == Source("a")
    assert places(of_a) == [3, 4]
    assert ("a" in held, "b" in held) == (False, True)
    assert held.release("a") == []
    held.clear()
    assert not held
