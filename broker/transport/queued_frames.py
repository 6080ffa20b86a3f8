"""The frames that wait in an outbox, in the order of their writes. Pure.

A memoryview is the rest of a frame that the kernel took the beginning of: it must be written.
"""

from typing import TypeAlias

CHUNK_BYTES = 65_536
"""Queued frames are joined into writes of about this size: large enough to be cheap, small enough that a close
frame gets out soon behind one. Also, at most so much waits for the flusher: before more is queued, it is written."""

Frames: TypeAlias = list[bytes | memoryview]


def remove_written(queue: Frames, size: int) -> None:
    """Remove the first `size` bytes."""
    while size >= len(queue[0]):
        size -= len(queue.pop(0))
    if size:
        queue[0] = memoryview(queue[0])[size:]


def take_chunk(queue: Frames) -> Frames:
    """Remove and return the frames of the next write."""
    size, count = len(queue[0]), 1
    while count < len(queue) and size + len(queue[count]) <= CHUNK_BYTES:
        size += len(queue[count])
        count += 1
    chunk = queue[:count]
    del queue[:count]
    return chunk


def size_of(frames: Frames) -> int:
    """Return their bytes."""
    return sum(map(len, frames))
