"""Lines out of chunks, however they are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from broker.http.api.lines import Line, LineSplitter

LIMIT = 8


def split(chunks):
    splitter = LineSplitter(LIMIT)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


def expected(text):
    for number, line in enumerate(text.split(b"\n"), 1):
        bare = line.removesuffix(b"\r")
        if len(bare) > LIMIT:
            yield Line(number, None)
        elif bare.strip():
            yield Line(number, bare)


@given(
    text=st.lists(st.sampled_from([b"a", b"bc", b" ", b"\r", b"\n", b"\r\n", b"123456789"])).map(b"".join),
    cuts=st.lists(st.integers(0, 60)),
)
def test_lines_do_not_depend_on_how_the_text_is_cut(text, cuts):
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    chunks = [text[a:b] for a, b in pairwise(places)]
    assert split(chunks) == list(expected(text))


def test_lines_are_numbered_with_the_blank_ones():
    assert split([b"a\n\n\r\nb"]) == [Line(1, b"a"), Line(4, b"b")]


def test_a_line_over_the_limit_is_dropped_and_the_next_is_well():
    assert split([b"x" * 9, b"x" * 100, b"\nok"]) == [Line(1, None), Line(2, b"ok")]


def test_an_endless_line_takes_no_memory():
    splitter = LineSplitter(LIMIT)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
        assert len(splitter._held) <= LIMIT + 1
    assert list(splitter.finish()) == [Line(1, None)]
