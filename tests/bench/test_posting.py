"""Messages of members are counted at any boundaries of their segments."""

from hypothesis import given
from hypothesis import strategies as st

from bench.load.posting import count_marks

MARK = b'"offset"'


@given(st.lists(st.sampled_from([MARK, b'"off', b'set"', b"x", b'"']), max_size=30), st.integers(1, 20))
def test_marks_are_counted_once_however_the_bytes_come(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    count, tail = 0, b""
    for at in range(0, len(data), size):
        found, tail = count_marks(tail + data[at : at + size], MARK)
        count += found
    assert count == data.count(MARK)
