"""The stages of a script that runs under callgrind: what is executed in each is counted."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Counts what is executed in each `stage`, with the library that is made of `stages.c`; without it, nothing."""

    def __init__(self, path: str | None, *, are_short: bool = False) -> None:
        """`are_short`: there are many stages that take less time than callgrind needs to begin to count."""
        self._library = None if path is None else ctypes.CDLL(path)
        self._are_short = are_short

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is executed in the block."""
        if self._library is None:
            yield
        elif self._are_short:
            self._library.stage_mark()
            yield
            self._library.stage_dump(name.encode())
        else:
            gc.collect()
            self._library.stage_begin()
            yield
            self._library.stage_end(name.encode())
