"""What is known of other nodes' users, from what they tell and what is read."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.presence import CrowdChange, Crowds, NodeCrowd
from broker.rooms.crowd import Crowd, Passage


def told(passages: Sequence[Passage] | None) -> list[tuple[str, str, int]]:
    assert passages is not None
    return [("+" if one.is_coming else "-", one.user_id, one.size) for one in passages]


def test_each_connection_is_told_of_with_the_size_after_it() -> None:
    crowd = Crowd()
    assert told(crowd.apply(CrowdChange("east", 5, 0, {"ann": 2, "bob": 1}))) == [
        ("+", "ann", 1),
        ("+", "ann", 2),
        ("+", "bob", 3),
    ]
    assert told(crowd.apply(CrowdChange("west", 6, 0, {"ann": 1}))) == [("+", "ann", 4)]
    assert told(crowd.apply(CrowdChange("east", 7, 5, {"ann": 1, "cas": 1}))) == [
        ("-", "ann", 3),
        ("+", "cas", 4),
    ]
    assert (crowd.size, dict(crowd.users())) == (4, {"ann": 2, "bob": 1, "cas": 1})
    assert crowd.nodes == {"east", "west"}
    assert told(crowd.apply(CrowdChange("east", 8, 0, {}))) == [
        ("-", "bob", 3),
        ("-", "ann", 2),
        ("-", "cas", 1),
    ]
    assert crowd.nodes == {"west"}


def test_what_was_seen_before_is_not_told_again_and_what_was_missed_is_noticed() -> None:
    crowd = Crowd()
    crowd.replace(Crowds("board", 10, {"east": NodeCrowd(7, {"ann": 1})}))
    assert crowd.apply(CrowdChange("east", 6, 5, {"bob": 1})) == []
    assert crowd.apply(CrowdChange("west", 9, 0, {"cas": 1})) == []
    assert crowd.apply(CrowdChange("east", 12, 11, {"bob": 1})) is None
    assert crowd.apply(CrowdChange("west", 12, 11, {"bob": 1})) is None
    assert told(crowd.apply(CrowdChange("east", 11, 7, {"ann": 0}))) == [("-", "ann", 0)]


def test_those_who_are_not_read_have_left() -> None:
    crowd = Crowd()
    crowd.apply(CrowdChange("east", 5, 0, {"ann": 1}))
    assert crowd.replace(Crowds("board", 9, {})) == ([Passage("ann", is_coming=False, size=0)], False)


def test_where_everything_was_lost_they_are_given_time_to_tell_it_again() -> None:
    crowd = Crowd()
    crowd.replace(Crowds("old", 9, {"east": NodeCrowd(8, {"ann": 1}), "west": NodeCrowd(9, {"bob": 1})}))
    assert crowd.replace(Crowds("new", 20, {})) == ([], True)
    assert crowd.apply(CrowdChange("east", 21, 0, {"ann": 1})) == []
    passages, is_anew = crowd.replace(Crowds("new", 22, {"east": NodeCrowd(21, {"ann": 1})}))
    assert (told(passages), is_anew) == ([("-", "bob", 1)], False)


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
) -> CrowdChange:
    """Change what the server holds of a node, without changes to nothing; return what it publishes."""
    follows = versions.get(name, 0) if truth.get(name) and changes else 0
    counts = {**truth.get(name, {}), **changes} if changes else {}
    truth[name] = {user: count for user, count in counts.items() if count}
    versions[name] = now
    return CrowdChange(name, now, follows, changes if follows else truth[name])


class Watcher:
    """Counts what the crowd tells, and reads everything when the crowd wants that."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.truth: dict[str, dict[str, int]] = {}
        self.versions: dict[str, int] = {}
        self.seen: Counter[str] = Counter()

    def read(self, now: int) -> None:
        held = {
            name: NodeCrowd(self.versions[name], dict(counts))
            for name, counts in self.truth.items()
            if counts
        }
        self._note(self.crowd.replace(Crowds("board", now, held))[0])

    def hear(self, change: CrowdChange, now: int) -> None:
        passages = self.crowd.apply(change)
        if passages is None:
            self.read(now)
        else:
            self._note(passages)

    def _note(self, passages: Sequence[Passage]) -> None:
        for passage in passages:
            self.seen[passage.user_id] += 1 if passage.is_coming else -1
            assert self.seen[passage.user_id] >= 0
        assert self.crowd.size == self.seen.total()


@given(steps)
def test_whatever_is_lost_or_late_the_crowd_is_as_told_in_the_end(
    steps: list[tuple[str, dict[str, int], str]],
) -> None:
    """The truth is what a server holds; changes come in order, some are lost, some come after they were read."""
    watcher = Watcher()
    late: list[CrowdChange] = []
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
    assert +Counter(dict(watcher.crowd.users())) == +expected
    assert +watcher.seen == +expected
