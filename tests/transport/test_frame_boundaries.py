"""How many frames a peer has sent, whatever pieces they came in."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from broker.transport.frame_boundaries import FrameBoundaries

FRAMES = st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536, 70_000]), max_size=8)


@given(FRAMES, st.lists(st.integers(0, 80_000), max_size=12))
def test_any_split_of_any_frames_counts_the_same(sizes: list[int], cuts: list[int]) -> None:
    client = FrameProtocol(client=True, extensions=[])
    data = b"".join(bytes(client._serialize_frame(Opcode.BINARY, bytes(size), fin=True)) for size in sizes)
    boundaries = FrameBoundaries()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    counted = sum(boundaries.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    assert counted == len(sizes)


def test_a_head_in_single_bytes_is_one_frame() -> None:
    boundaries = FrameBoundaries()
    frame = b"\x81\xfe\x00\x80" + b"mask" + bytes(128)
    frame = b"\x01" + frame[1:]
    counts = [boundaries.feed(frame[i : i + 1]) for i in range(len(frame))]
    assert sum(counts) == 1
    assert counts[7] == 1, "when its head is complete"
    assert boundaries.feed(b"\x8a\x80mask") == 1


def test_whole_text_messages_are_not_counted() -> None:
    assert FrameBoundaries().feed(b"\x81\x80mask" * 3 + b"\x89\x80mask") == 1
