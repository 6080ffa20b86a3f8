"""Requests: what an entry looks like, and their ids."""

import json

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.outbox import Entry
from broker.webhooks.batches import make_batch
from tests.webhooks.entries import entry


def test_the_fields_of_a_kind_stand_beside_those_of_all_and_never_hide_them() -> None:
    fields = b'{"offset":7,"epoch":"r","content":{"a":1.0,"b":[]},"id":"forged","number":0}'
    [told] = json.loads(make_batch([entry(3, fields=fields)]).body)
    assert told == {
        "id": "e-3",
        "type": "message",
        "number": 3,
        "time": 1003,
        "room": "a",
        "user": "ann",
        "offset": 7,
        "epoch": "r",
        "content": {"a": 1.0, "b": []},
    }
    [online] = json.loads(make_batch([entry(4, room=None)]).body)
    assert online == {
        "id": "e-4",
        "type": "user_online",
        "number": 4,
        "time": 1004,
        "room": None,
        "user": "ann",
    }


entries = st.lists(
    st.builds(
        lambda number, size: entry(number, fields=b'{"x":"%b"}' % (b"x" * size)),
        st.integers(1, 99),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=12,
)


@given(entries=entries, most_bytes=st.integers(1, 2000))
def test_a_batch_is_the_first_entries_that_fit(entries: list[Entry], most_bytes: int) -> None:
    batch = make_batch(entries, most_bytes=most_bytes)
    assert list(batch.entries) == entries[: len(batch.entries)]
    assert [told["number"] for told in json.loads(batch.body)] == list(batch.numbers)
    assert len(batch.body) <= most_bytes or len(batch.entries) == 1
    if len(batch.entries) < len(entries):
        more = make_batch(entries[: len(batch.entries) + 1], most_bytes=10**9)
        assert len(more.body) + 1 > most_bytes


def test_an_id_names_the_entries_of_a_request() -> None:
    one, same = make_batch([entry(1), entry(2)]), make_batch([entry(1), entry(2, queued_ms=9)])
    assert one.id == same.id
    assert one.id != make_batch([entry(1)]).id
    assert one.id != make_batch([entry(1), entry(3)]).id
