"""The known users of other nodes, from announcements and snapshots."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.presence import NodePresence, RemoteChange, RemotePresence
from broker.rooms.presence.remote_members import MemberChange, RemoteMembers


def told(changes: Sequence[MemberChange] | None) -> list[tuple[str, str, int]]:
    assert changes is not None
    return [("+" if one.is_join else "-", one.user_id, one.size) for one in changes]


def test_each_connection_is_told_of_with_the_size_after_it() -> None:
    remote = RemoteMembers()
    assert told(remote.apply(RemoteChange("east", 5, 0, {"ann": 2, "bob": 1}))) == [
        ("+", "ann", 1),
        ("+", "ann", 2),
        ("+", "bob", 3),
    ]
    assert told(remote.apply(RemoteChange("west", 6, 0, {"ann": 1}))) == [("+", "ann", 4)]
    assert told(remote.apply(RemoteChange("east", 7, 5, {"ann": 1, "cas": 1}))) == [
        ("-", "ann", 3),
        ("+", "cas", 4),
    ]
    assert (remote.size, dict(remote.users())) == (4, {"ann": 2, "bob": 1, "cas": 1})
    assert remote.nodes == {"east", "west"}
    assert told(remote.apply(RemoteChange("east", 8, 0, {}))) == [
        ("-", "bob", 3),
        ("-", "ann", 2),
        ("-", "cas", 1),
    ]
    assert remote.nodes == {"west"}


def test_repeated_changes_are_ignored_and_missed_ones_are_detected() -> None:
    remote = RemoteMembers()
    remote.replace(RemotePresence("store", 10, {"east": NodePresence(7, {"ann": 1})}))
    assert remote.apply(RemoteChange("east", 6, 5, {"bob": 1})) == []
    assert remote.apply(RemoteChange("west", 9, 0, {"cas": 1})) == []
    assert remote.apply(RemoteChange("east", 12, 11, {"bob": 1})) is None
    assert remote.apply(RemoteChange("west", 12, 11, {"bob": 1})) is None
    assert told(remote.apply(RemoteChange("east", 11, 7, {"ann": 0}))) == [("-", "ann", 0)]


def test_users_missing_from_a_snapshot_have_left() -> None:
    remote = RemoteMembers()
    remote.apply(RemoteChange("east", 5, 0, {"ann": 1}))
    assert remote.replace(RemotePresence("store", 9, {})) == (
        [MemberChange("ann", is_join=False, size=0)],
        False,
    )


def test_where_everything_was_lost_they_are_given_time_to_tell_it_again() -> None:
    remote = RemoteMembers()
    remote.replace(
        RemotePresence("old", 9, {"east": NodePresence(8, {"ann": 1}), "west": NodePresence(9, {"bob": 1})})
    )
    assert remote.replace(RemotePresence("new", 20, {})) == ([], True)
    assert remote.apply(RemoteChange("east", 21, 0, {"ann": 1})) == []
    changes, is_anew = remote.replace(RemotePresence("new", 22, {"east": NodePresence(21, {"ann": 1})}))
    assert (told(changes), is_anew) == ([("-", "bob", 1)], False)


nodes = st.sampled_from(["east", "west", "south"])
steps = st.lists(
    st.tuples(
        nodes,
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1),
        st.sampled_from(["heard", "lost", "late", "died"]),
    ),
    max_size=30,
)


def make_change(
    truth: dict[str, dict[str, int]], versions: dict[str, int], now: int, name: str, changes: dict[str, int]
) -> RemoteChange:
    """Change what the server holds of a node, without changes to nothing; return what it publishes."""
    follows = versions.get(name, 0) if truth.get(name) and changes else 0
    counts = {**truth.get(name, {}), **changes} if changes else {}
    truth[name] = {user: count for user, count in counts.items() if count}
    versions[name] = now
    return RemoteChange(name, now, follows, changes if follows else truth[name])


class Watcher:
    """Counts what the crowd tells, and reads everything when the crowd wants that."""

    def __init__(self) -> None:
        self.remote = RemoteMembers()
        self.truth: dict[str, dict[str, int]] = {}
        self.versions: dict[str, int] = {}
        self.seen: Counter[str] = Counter()

    def read(self, now: int) -> None:
        held = {
            name: NodePresence(self.versions[name], dict(counts))
            for name, counts in self.truth.items()
            if counts
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
            self.seen[change.user_id] += 1 if change.is_join else -1
            assert self.seen[change.user_id] >= 0
        assert self.remote.size == self.seen.total()


@given(steps)
def test_the_members_are_right_in_the_end_under_loss_and_delay(
    steps: list[tuple[str, dict[str, int], str]],
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
    expected: Counter[str] = Counter()
    for counts in watcher.truth.values():
        expected.update(counts)
    assert +Counter(dict(watcher.remote.users())) == +expected
    assert +watcher.seen == +expected
