"""The one append of a room that was begun in a borrowed turn and is waited for by no task.

Until it is done and answered, the room handles nothing but events of the feed, as if its task waited for the engine.
"""

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from actors import ActorStoppedError
from broker.engine.base import Receipt
from broker.errors import EngineUnavailableError
from broker.rooms.messages import AppendDone, Publish, RoomMessage


@attrs.define(eq=False)
class PendingAppend:
    """A publish whose append is on its way; `result` is None until it is done."""

    publish: Publish
    began: float  # trio time
    result: Receipt | EngineUnavailableError | None = None
    _done: trio.Event | None = None  # while a task waits

    def note_done(
        self, tell: Callable[[RoomMessage], None], result: Receipt | EngineUnavailableError
    ) -> None:
        """Take the result, and let the room answer: its task if that waits, else a borrowed turn. Never raises."""
        self.result = result
        if self._done is not None:
            self._done.set()
        with suppress(ActorStoppedError):  # then `on_stop` answers
            tell(AppendDone())  # one for each append: bounded

    async def wait(self) -> Receipt | EngineUnavailableError:
        """Wait until it is done; returns the result."""
        if self.result is None:
            self._done = trio.Event()
            await self._done.wait()
        assert self.result is not None, "it is done"
        return self.result
