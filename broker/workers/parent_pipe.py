"""The pipe whose end shows a worker that its parent is gone."""

import os
import signal

import trio


async def drain_without_parent(descriptor: int) -> None:
    """Wait until the other end of a pipe is closed, which only the end of the parent does, then ask for a drain."""
    async with trio.lowlevel.FdStream(descriptor) as pipe:
        async for _ in pipe:
            pass
    os.kill(os.getpid(), signal.SIGTERM)
