"""Questions between the workers of a machine, over Unix sockets in a folder that only their user may enter."""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import trio

MOST_QUESTION_BYTES = 65_536
MOST_ANSWER_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 10.0
"""Time limit for one exchange; those who ask wait less."""

MOST_FOLDER_BYTES = 80
"""The address of a Unix socket has 104 bytes at least everywhere."""

Answer = Callable[[bytes], Awaitable[bytes]]


@contextmanager
def sibling_folder() -> Iterator[Path | None]:
    """Make a folder of mode 0700 for the sockets of workers, and remove it at the end; None if none can be made."""
    for parent in (None, "/tmp", "/dev/shm"):  # noqa: S108  # the folder made there is private
        try:
            folder = TemporaryDirectory(prefix="greenroom-", dir=parent, ignore_cleanup_errors=True)
        except OSError:
            continue
        with folder as name:
            if len(os.fsencode(name)) <= MOST_FOLDER_BYTES:
                yield Path(name)
                return
    yield None


@attrs.frozen
class Siblings:
    """The workers of one `greenroom serve --workers`, seen from one of them."""

    folder: Path
    worker: int
    count: int

    @property
    def others(self) -> list[int]:
        """Return the indexes of all but this one."""
        return [index for index in range(self.count) if index != self.worker]

    async def ask(
        self, workers: list[int], question: bytes, *, patience_seconds: float
    ) -> Mapping[int, bytes]:
        """Ask some of them at the same time; returns the answers that came in time."""
        answers: dict[int, bytes] = {}

        async def ask_one(index: int) -> None:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                answer = await self._ask_one(index, question)
                if answer:
                    answers[index] = answer

        with trio.move_on_after(patience_seconds):
            async with trio.open_nursery() as nursery:
                for index in workers:
                    nursery.start_soon(ask_one, index)
        return answers

    async def serve(
        self, answer: Answer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer the others until cancelled. A failure with one ends nothing else.

        :raises OSError: if the socket cannot be made.
        """
        path = self._path(self.worker)
        # Left by an earlier process of this worker.
        path.unlink(missing_ok=True)
        with trio.socket.socket(trio.socket.AF_UNIX) as sock:
            await sock.bind(str(path))
            sock.listen()
            task_status.started()
            try:
                await trio.serve_listeners(partial(_serve_one, answer), [trio.SocketListener(sock)])
            finally:
                path.unlink(missing_ok=True)

    async def _ask_one(self, index: int, question: bytes) -> bytes:
        with trio.socket.socket(trio.socket.AF_UNIX) as sock:
            await sock.connect(str(self._path(index)))
            stream = trio.SocketStream(sock)
            await stream.send_all(question)
            await stream.send_eof()
            return await _receive_all(stream, MOST_ANSWER_BYTES)

    def _path(self, index: int) -> Path:
        return self.folder / str(index)


async def _serve_one(answer: Answer, stream: trio.SocketStream) -> None:
    with trio.move_on_after(ANSWER_SECONDS), suppress(OSError, trio.BrokenResourceError):
        question = await _receive_all(stream, MOST_QUESTION_BYTES)
        if question:
            await stream.send_all(await answer(question))
    await trio.aclose_forcefully(stream)


async def _receive_all(stream: trio.SocketStream, most_bytes: int) -> bytes:
    """Return everything up to the end; nothing if that is more than `most_bytes`."""
    received = bytearray()
    async for part in stream:
        received += part
        if len(received) > most_bytes:
            return b""
    return bytes(received)
