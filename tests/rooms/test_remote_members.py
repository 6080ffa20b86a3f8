"""The known members of other nodes, from announcements and snapshots."""

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.presence import NodePresence, RemoteChange, RemotePresence
from broker.model import Shown
from broker.rooms.presence.remote_members import Kind, MemberChange, RemoteMembers

SIGNS = {Kind.JOINED: "+", Kind.LEFT: "-", Kind.UPDATED: "~"}


def told(changes: Sequence[MemberChange] | None) -> list[tuple[str, str, int]]:
    assert changes is not None
    return [(SIGNS[one.kind], one.shown.connection, one.size) for one in changes]


def members(*connections: str, state: bytes | None = None) -> dict[str, Shown]:
    """Return members whose users are named by the first letters of their connections."""
    return {name: Shown(name[0], name, state=state) for name in connections}


def test_each_connection_is_told_of_with_the_size_after_it() -> None:
    remote = RemoteMembers()
    assert told(remote.apply(RemoteChange("east", 5, 0, members("a1", "a2", "b1")))) == [
        ("+", "a1", 1),
        ("+", "a2", 2),
        ("+", "b1", 3),
    ]
    assert told(remote.apply(RemoteChange("west", 6, 0, members("a3")))) == [("+", "a3", 4)]
    assert told(remote.apply(RemoteChange("east", 7, 5, {"a1": None, **members("c1")}))) == [
        ("-", "a1", 3),
        ("+", "c1", 4),
    ]
    assert (remote.size, dict(remote.users())) == (4, {"a": 2, "b": 1, "c": 1})
    assert remote.nodes == {"east", "west"}
    assert told(remote.apply(RemoteChange("east", 8, 0, {}))) == [
        ("-", "a2", 3),
        ("-", "b1", 2),
        ("-", "c1", 1),
    ]
    assert remote.nodes == {"west"}


def test_another_state_is_an_update_and_the_same_again_is_nothing() -> None:
    remote = RemoteMembers()
    remote.apply(RemoteChange("east", 5, 0, members("a1", "b1")))
    assert told(remote.apply(RemoteChange("east", 6, 5, members("a1", state=b"1")))) == [("~", "a1", 2)]
    held = members("a1", state=b"1") | members("b1", state=b"2")
    changes, _ = remote.replace(RemotePresence("store", 9, {"east": NodePresence(8, held)}))
    assert told(changes) == [("~", "b1", 2)]
    assert [shown.state for shown in remote] == [b"1", b"2"]


def test_repeated_changes_are_ignored_and_missed_ones_are_detected() -> None:
    remote = RemoteMembers()
    remote.replace(RemotePresence("store", 10, {"east": NodePresence(7, members("a1"))}))
    assert remote.apply(RemoteChange("east", 6, 5, members("b1"))) == []
    assert remote.apply(RemoteChange("west", 9, 0, members("c1"))) == []
    assert remote.apply(RemoteChange("east", 12, 11, members("b1"))) is None
    assert remote.apply(RemoteChange("west", 12, 11, members("b1"))) is None
    assert told(remote.apply(RemoteChange("east", 11, 7, {"a1": None}))) == [("-", "a1", 0)]


def test_members_missing_from_a_snapshot_have_left() -> None:
    remote = RemoteMembers()
    remote.apply(RemoteChange("east", 5, 0, members("a1")))
    assert remote.replace(RemotePresence("store", 9, {})) == (
        [MemberChange(Kind.LEFT, Shown("a", "a1"), size=0)],
        False,
    )


def test_where_everything_was_lost_they_are_given_time_to_tell_it_again() -> None:
    remote = RemoteMembers()
    remote.replace(
        RemotePresence(
            "old", 9, {"east": NodePresence(8, members("a1")), "west": NodePresence(9, members("b1"))}
        )
    )
    assert remote.replace(RemotePresence("new", 20, {})) == ([], True)
    assert remote.apply(RemoteChange("east", 21, 0, members("a1"))) == []
    changes, is_anew = remote.replace(RemotePresence("new", 22, {"east": NodePresence(21, members("a1"))}))
    assert (told(changes), is_anew) == ([("-", "b1", 1)], False)


nodes = st.sampled_from(["east", "west", "south"])
steps = st.lists(
    st.tuples(
        nodes,
        st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 2), min_size=1),
        st.sampled_from(["heard", "lost", "late", "died"]),
    ),
    max_size=30,
)


def make_change(
    truth: dict[str, dict[str, Shown]],
    versions: dict[str, int],
    now: int,
    name: str,
    states: Mapping[str, int | None],
) -> RemoteChange:
    """Change what the server holds of a node; return what it publishes. Without `states`, the node has died."""
    changes = {
        f"{name}-{place}": None if state is None else Shown(place, f"{name}-{place}", state=b"%d" % state)
        for place, state in states.items()
    }
    follows = versions.get(name, 0) if truth.get(name) and changes else 0
    held = {**truth.get(name, {}), **changes} if changes else {}
    truth[name] = {connection: shown for connection, shown in held.items() if shown is not None}
    versions[name] = now
    return RemoteChange(name, now, follows, changes if follows else truth[name])


class Watcher:
    """Keeps account of what the changes tell, and reads everything when that is wanted."""

    def __init__(self) -> None:
        self.remote = RemoteMembers()
        self.truth: dict[str, dict[str, Shown]] = {}
        self.versions: dict[str, int] = {}
        self.seen: dict[str, Shown] = {}

    def read(self, now: int) -> None:
        held = {
            name: NodePresence(self.versions[name], dict(members))
            for name, members in self.truth.items()
            if members
        }
        self._note(self.remote.replace(RemotePresence("store", now, held))[0])

    def hear(self, change: RemoteChange, now: int) -> None:
        changes = self.remote.apply(change)
        if changes is None:
            self.read(now)
        else:
            self._note(changes)

    def _note(self, changes: Sequence[MemberChange]) -> None:
        for change in changes:
            shown = change.shown
            before = self.seen.get(shown.connection)
            if change.kind is Kind.LEFT:
                assert self.seen.pop(shown.connection) == shown
            else:
                assert (before is None) == (change.kind is Kind.JOINED)
                assert before != shown
                self.seen[shown.connection] = shown
            assert change.size == len(self.seen)


@given(steps)
def test_the_members_are_right_in_the_end_under_loss_and_delay(
    steps: list[tuple[str, dict[str, int | None], str]],
) -> None:
    """The truth is what a server holds; changes come in order, some are lost, some come after they were read."""
    watcher = Watcher()
    late: list[RemoteChange] = []
    for now, (name, changes, fate) in enumerate(steps, 1):
        change = make_change(watcher.truth, watcher.versions, now, name, {} if fate == "died" else changes)
        if fate == "late":
            watcher.read(now)
            late.append(change)
        elif fate != "lost":
            for each in (*late, change):
                watcher.hear(each, now)
            late.clear()
    watcher.read(len(steps) + 1)
    expected = {shown.connection: shown for members in watcher.truth.values() for shown in members.values()}
    assert {shown.connection: shown for shown in watcher.remote} == watcher.seen == expected
    assert watcher.remote.users() == Counter(shown.user_id for shown in expected.values())
